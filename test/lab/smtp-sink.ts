// A mail server for tests: enough of SMTP (RFC 5321) and AUTH PLAIN (RFC 4954) to take a message, or to refuse the recipient with
// a status, or to say nothing at all.
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export interface SmtpSink {
  readonly port: number;
  /** Whole messages, header and body. */
  readonly messages: string[];
  /** Decoded AUTH PLAIN responses. */
  readonly logins: string[];
  /** The status of RCPT TO from now on (250 takes it), or no answer to anything. */
  respond(status: number | 'hang'): void;
  stop(): Promise<void>;
}

export async function startSmtpSink(): Promise<SmtpSink> {
  const messages: string[] = [];
  const logins: string[] = [];
  const sockets = new Set<Socket>();
  let answer: number | 'hang' = 250;

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    if (answer === 'hang') return;
    const say = (line: string) => socket.write(`${line}\r\n`);
    let data: string[] | undefined;
    say('220 sink ESMTP');
    createInterface({ input: socket }).on('line', (line) => {
      if (data !== undefined) {
        if (line !== '.') data.push(line);
        else {
          messages.push(data.join('\n'));
          data = undefined;
          say('250 taken');
        }
        return;
      }
      const [verb = ''] = line.toUpperCase().split(' ');
      if (verb === 'EHLO') say('250-sink\r\n250 AUTH PLAIN');
      else if (verb === 'AUTH') {
        logins.push(Buffer.from(line.split(' ')[2] ?? '', 'base64').toString('utf8'));
        say('235 welcome');
      } else if (verb === 'RCPT') say(`${answer} recipient`);
      else if (verb === 'DATA') {
        data = [];
        say('354 go on');
      } else if (verb === 'QUIT') socket.end('221 bye\r\n');
      else say('250 ok');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    messages,
    logins,
    respond(status) {
      answer = status;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
