// Worker of mssim.test.ts: speaks the protocol of the Microsoft simulator (tss2_tcti_mssim.h) in front of a swtpm. A thread of its
// own, because the module of tpm2-tss blocks while it connects.
import { connect, createServer, type Server, type Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

const { swtpm } = workerData as { swtpm: string };
const sendCommand = 8; // MS_SIM_TPM_SEND_COMMAND
const headerSize = 9; // its code, the locality, the command's size

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** Power, NV and so on: each is done. */
function platform(socket: Socket): void {
  socket.on('error', () => {});
  socket.on('data', (bytes) => socket.write(Buffer.alloc(bytes.length - (bytes.length % 4))));
}

function commands(socket: Socket): void {
  let received = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    received = Buffer.concat([received, bytes]);
    if (received.length < headerSize || received.readUInt32BE(0) !== sendCommand) return;
    const end = headerSize + received.readUInt32BE(5);
    if (received.length < end) return;
    const command = received.subarray(headerSize, end);
    received = received.subarray(end);
    pass(command, socket);
  });
}

/** swtpm takes one client after another, and has few places in its queue: where that is full (EAGAIN), the command waits here. */
function pass(command: Buffer, socket: Socket): void {
  const tpm = connect(swtpm, () => tpm.write(command));
  tpm.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EAGAIN' && !socket.destroyed) setTimeout(pass, 5, command, socket);
    else socket.destroy();
  });
  tpm.once('data', (answer) => {
    socket.write(Buffer.concat([u32(answer.length), answer, u32(0)]));
    tpm.end();
  });
}

const listening = (server: Server, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });

/** The platform's port is the one after the commands' port, and may be taken. */
async function listenOnBoth(): Promise<number> {
  for (;;) {
    const first = createServer(commands);
    const port = await listening(first, 0);
    try {
      await listening(createServer(platform), port + 1);
      return port;
    } catch {
      first.close();
    }
  }
}

parentPort?.postMessage(await listenOnBoth());
