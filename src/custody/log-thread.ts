// The thread of aside.ts.
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { createGunzip } from 'node:zlib';
import type { Question } from './aside.ts';
import { checkParts, checkPieces, findIn } from './check.ts';

function answer(question: Question): unknown {
  switch (question.ask) {
    case 'check':
      return checkParts(question.parts, question.given);
    case 'find':
      return findIn(question.parts, question.sought);
    case 'packed':
      return pipeline(createReadStream(question.path), createGunzip(), (pieces) =>
        checkPieces(pieces, question.known),
      );
  }
}

parentPort?.postMessage(await answer(workerData as Question));
