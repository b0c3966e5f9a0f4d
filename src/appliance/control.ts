// The control socket: a unix socket in the state directory, for its owner only. One JSON line asks; JSON lines answer (progress,
// then one result or one error). `stream` answers with a line and then raw bytes.
import { chmodSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { type ExitStatus, exitStatus, Failure, reasonOf } from '../host/failure.ts';

interface Request {
  readonly method: string;
  readonly params: Record<string, unknown>;
}

type Answer =
  | { readonly progress: string }
  | { readonly result: unknown }
  | {
      readonly error: { code: string; message: string; kept?: string; remedy?: string; status: ExitStatus };
    };

/** What a method may do beside returning its result. */
export interface Caller {
  readonly progress: (step: string) => void;
  /** Takes over the connection for raw bytes after `{"result":null}`. */
  readonly raw: () => Socket;
}

export type Methods = Readonly<
  Record<string, (params: Record<string, unknown>, caller: Caller) => Promise<unknown>>
>;

/** A request is one line of at most this many bytes. */
const longestRequest = 65_536;

/** Listens at `path`, whose stale file of a killed run is replaced (the caller holds the state's lock). */
export async function serveControl(path: string, methods: Methods): Promise<AsyncDisposable> {
  rmSync(path, { force: true });
  const open = new Set<Socket>();
  const server: Server = createServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => {}); // A caller that left is no concern of the node.
    void answer(socket, methods);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      rmSync(path, { force: true });
    },
  };
}

async function answer(socket: Socket, methods: Methods): Promise<void> {
  const say = (line: Answer): void => {
    if (socket.writable) socket.write(`${JSON.stringify(line)}\n`);
  };
  let taken = false;
  try {
    const request = await readRequest(socket);
    const method = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined;
    if (method === undefined) {
      throw new Failure('control-method', `The node knows no "${request.method}".`, {
        remedy: 'Use the same version of the program as the node that runs.',
      });
    }
    const result = await method(request.params, {
      progress: (step) => say({ progress: step }),
      raw: () => {
        taken = true;
        say({ result: null });
        return socket;
      },
    });
    if (!taken) say({ result });
  } catch (thrown) {
    if (taken) {
      socket.destroy(); // Words would pass for what was promised.
      return;
    }
    const failure = thrown instanceof Failure ? thrown : new Failure('internal', reasonOf(thrown));
    say({ error: { ...failure.toJSON(), status: failure.status } });
  }
  socket.end();
}

/** The first line of a connection. The socket is left paused, so that raw bytes may follow. */
function readRequest(socket: Socket): Promise<Request> {
  const { promise, resolve, reject } = Promise.withResolvers<Request>();
  let text = '';
  const onData = (chunk: Buffer): void => {
    text += chunk.toString('utf8');
    const end = text.indexOf('\n');
    if (end === -1 && text.length <= longestRequest) return;
    socket.off('data', onData);
    try {
      const request = JSON.parse(text.slice(0, end)) as Partial<Request>;
      if (typeof request.method !== 'string') throw new Error('no method');
      resolve({ method: request.method, params: request.params ?? {} });
    } catch {
      reject(new Failure('control-request', 'The request is not one line of JSON.'));
    }
  };
  socket.on('data', onData);
  socket.once('close', () => reject(new Failure('control-closed', 'The caller left.')));
  return promise;
}

/** Whether a node runs on this state: something answers at the socket. */
export function isRunning(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Asks the running node. The node's Failure is thrown here as it was there.
 * @throws Failure `node-not-running` when nothing answers.
 */
export async function askNode<T>(
  path: string,
  method: string,
  params: Record<string, unknown> = {},
  onProgress: (step: string) => void = () => {},
): Promise<T> {
  const socket = await connect(path);
  socket.write(`${JSON.stringify({ method, params })}\n`);
  for await (const line of createInterface({ input: socket })) {
    const answer = JSON.parse(line) as Answer;
    if ('progress' in answer) onProgress(answer.progress);
    else return resultOf<T>(answer);
  }
  throw notRunning('it ended while it was asked');
}

/**
 * Raw bytes from the running node, until `socket` ends.
 * @throws as `askNode`, when the node refuses.
 */
export async function askNodeForBytes(
  path: string,
  method: string,
  params: Record<string, unknown>,
): Promise<{ readonly first: Buffer; readonly socket: Socket }> {
  const socket = await connect(path);
  socket.write(`${JSON.stringify({ method, params })}\n`);
  const { promise, resolve, reject } = Promise.withResolvers<{ first: Buffer; socket: Socket }>();
  let head = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf(0x0a);
    if (end === -1) return;
    socket.off('data', onData);
    socket.pause();
    try {
      resultOf(JSON.parse(head.subarray(0, end).toString('utf8')) as Answer);
      resolve({ first: head.subarray(end + 1), socket });
    } catch (error) {
      socket.destroy();
      reject(error);
    }
  };
  socket.on('data', onData);
  socket.once('end', () => reject(notRunning('it ended while it was asked')));
  return await promise;
}

function resultOf<T>(answer: Answer): T {
  if ('result' in answer) return answer.result as T;
  if (!('error' in answer)) throw notRunning('it answered out of order');
  const { code, message, ...details } = answer.error;
  throw new Failure(code, message, details);
}

function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => socket.destroy());
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EACCES'
          ? new Failure('control-denied', `The control socket ${path} is for its owner only.`, {
              remedy: 'Repeat the command as the user that runs the node (root).',
            })
          : notRunning('nothing listens there'),
      ),
    );
  });
}

const notRunning = (why: string): Failure =>
  new Failure('node-not-running', `No node runs on this state directory: ${why}.`, {
    remedy: 'Start it with `esoteric-appliance run` (with the same --state-dir).',
    status: exitStatus.failed,
  });
