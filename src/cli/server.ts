import { command, configOf, ending, stopSignal } from './command.ts';
import { logLine } from './output.ts';
import { parseCount, parseNames } from './quantity.ts';

export const serverCommand = command('server', 'random bytes and numbers over HTTP, on the loopback', [
  'server --port 8080    # then: curl "http://127.0.0.1:8080/api/v1/random?length=8&type=uint16"',
  'server --host 192.0.2.7 --tls-cert cert.pem --tls-key key.pem --token-file token',
])
  .option(
    '--host <address>',
    'where to listen; elsewhere than on the loopback only with TLS and a token',
    '127.0.0.1',
  )
  .option('--port <n>', 'TCP port; 0 lets the kernel choose', '8080')
  .option('--sources <names>', 'noise sources or families, with commas between')
  .option('--tls-cert <file>', 'certificate chain, PEM')
  .option('--tls-key <file>', 'its private key, PEM')
  .option('--token-file <file>', 'bearer token that clients must send, 16 characters or more')
  .option('--cors <origin>', 'pages of this origin may read the answers; "*" for any')
  .action((options) =>
    ending(options.json, async () => {
      const { beginEntropyProcess } = await import('../appliance/entropy-ahead.ts');
      await using _ahead = beginEntropyProcess();
      const { serveHttp } = await import('../appliance/entropy-outputs.ts');
      await serveHttp(await configOf(options), {
        host: options.host,
        port: parseCount('--port', options.port, 0, 65_535) ?? 8080,
        sources: parseNames(options.sources),
        tlsCert: options.tlsCert,
        tlsKey: options.tlsKey,
        tokenFile: options.tokenFile,
        origin: options.cors,
        signal: stopSignal(),
        onReady: (url) => logLine(`Serving on ${url}. Stop with Ctrl-C.`),
      });
    }),
  );
