// Assessments at rest: one JSON file a source below the state directory.
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readIfPresent, writeDurably } from '../../host/durable.ts';
import { z } from '../../host/zod.ts';
import { type AssessmentRecord, machineNow } from './record.ts';

const bits = z.number().min(0).max(8);

const schema = z.strictObject({
  format: z.literal(1),
  source: z.string().min(1),
  made: z.iso.datetime(),
  machine: z.string(),
  kernel: z.string(),
  kind: z.enum(['full', 'brief']),
  samples: z.int().min(1),
  minEntropy: bits,
  estimates: z.record(z.string(), z.number()),
  restart: z.strictObject({
    restarts: z.int().min(2),
    samples: z.int().min(1),
    passed: z.boolean(),
    minEntropy: bits,
    rows: bits,
    columns: bits,
    why: z.string().optional(),
  }),
});

const folder = (stateDirectory: string): string => join(stateDirectory, 'assessments');
const fileName = (source: string): string => `${source.replaceAll(/[^A-Za-z0-9.-]/g, '_')}.json`;

/** Returns where it is kept. */
export function writeAssessment(stateDirectory: string, record: AssessmentRecord): string {
  mkdirSync(folder(stateDirectory), { recursive: true, mode: 0o700 });
  const path = join(folder(stateDirectory), fileName(record.source));
  writeDurably(path, `${JSON.stringify(schema.parse(record), null, 2)}\n`, 0o644);
  return path;
}

/** Those made on this machine, by source. What cannot be read, or was made elsewhere, supports no credit and is left out. */
export function readAssessments(
  stateDirectory: string,
  machine = machineNow(),
): Map<string, AssessmentRecord> {
  const records = filesIn(folder(stateDirectory)).flatMap((path) => {
    try {
      const { success, data } = schema.safeParse(JSON.parse(readIfPresent(path) ?? ''));
      return success && data.machine === machine ? [data as AssessmentRecord] : [];
    } catch {
      return [];
    }
  });
  return new Map(records.map((record) => [record.source, record]));
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(directory, name));
  } catch {
    return []; // None were made.
  }
}
