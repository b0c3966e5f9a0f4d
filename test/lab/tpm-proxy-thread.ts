// The thread of tpm-proxy.ts: it answers also while the program blocks its own thread on the TPM.
import { openSync, writeSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { type ProxyTask, slot } from './tpm-proxy.ts';

const { path, target, record, board: shared } = workerData as ProxyTask;
const board = new Int32Array(shared);
const recording = openSync(record, 'w', 0o600);
const headerSize = 10;

const server = createServer({ allowHalfOpen: true }, (client) => {
  client.on('error', () => {});
  whole(client, (command) => carry(client, command));
});
server.listen(path, () => parentPort?.postMessage('listening'));
const control = createServer((client) => {
  const upstream = connect(`${target}.ctrl`);
  for (const socket of [client, upstream])
    socket.on('error', () => [client, upstream].map((s) => s.destroy()));
  client.pipe(upstream).pipe(client);
});
control.listen(`${path}.ctrl`);

/** One command there, one answer back; whoever hangs up on the way leaves the client with nothing. */
function carry(client: Socket, command: Buffer): void {
  writeSync(recording, command);
  const number = Atomics.add(board, slot.count, 1) + 1;
  Atomics.store(board, slot.codes + (number % slot.codesKept), command.readUInt32BE(6));
  const due = number === Atomics.load(board, slot.at);
  const kills = (when: number): boolean => due && Atomics.load(board, slot.when) === when;
  if (kills(slot.before)) {
    process.kill(Atomics.load(board, slot.pid), 'SIGKILL');
    client.destroy();
    return;
  }
  const upstream = connect(target, () => upstream.write(command));
  const lost = () => client.destroy();
  upstream.on('error', lost).on('close', lost);
  whole(upstream, (answer) => {
    upstream.off('close', lost).destroy();
    writeSync(recording, answer);
    if (!kills(slot.after)) {
      client.end(answer);
      return;
    }
    process.kill(Atomics.load(board, slot.pid), 'SIGKILL');
    client.destroy();
  });
}

/** Calls once a command or an answer is there in full: both say in their header how long they are. */
function whole(socket: Socket, then: (message: Buffer) => void): void {
  let message = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    const before = message.length;
    message = Buffer.concat([message, chunk]);
    const size = message.length < headerSize ? Number.POSITIVE_INFINITY : message.readUInt32BE(2);
    if (before < size && message.length >= size) then(message);
  });
}
