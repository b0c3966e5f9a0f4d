// The thread of aside.ts.
import { parentPort, workerData } from 'node:worker_threads';
import type { Question } from './aside.ts';
import { checkGzip, checkParts, findIn } from './check.ts';

function answer(question: Question): unknown {
  switch (question.ask) {
    case 'check':
      return checkParts(question.parts, question.given);
    case 'find':
      return findIn(question.parts, question.sought);
    case 'packed':
      return checkGzip(question.path, question.known);
  }
}

parentPort?.postMessage(await answer(workerData as Question));
