import type { PoolReport } from '../appliance/entropy-pool.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

export const poolCommand = command('pool', 'the entropy pool of the running node: sources, health, grade', [
  'pool',
  'pool --json',
  'pool --restart memory-timing    # test it anew, on demand',
])
  .option('--restart <source>', 'test one source anew from the beginning; the way back for an expelled one')
  .action((options) =>
    ending(options.json, async () => {
      const { poolOf } = await import('../appliance/entropy-pool.ts');
      const report = await poolOf(await configOf(options), options.restart);
      if (options.json) printJson(report);
      else for (const line of poolLines(report)) printLine(line);
    }),
  );

const stateStyle = {
  healthy: 'green',
  starting: 'cyan',
  failed: 'yellow',
  expelled: 'red',
  unavailable: 'dim',
} as const;
const gradeStyle = { A: 'green', B: 'green', C: 'yellow', D: 'yellow', F: 'red' } as const;

function poolLines({ grade, sources, ...pool }: PoolReport): string[] {
  const most = Math.max(...sources.map(({ credit }) => credit), 0.001);
  const here = sources.filter(({ available }) => available);
  const rows = here.map(({ name, family, state, credit, assessed, samples, failures, why }) => [
    name,
    family,
    paint(stateStyle[state], state),
    credit === 0 ? '' : '█'.repeat(Math.max(1, Math.round((16 * credit) / most))).padEnd(16),
    credit.toFixed(3),
    assessed,
    String(samples),
    failures === 0 ? '' : paint('yellow', String(failures)),
    why ?? '',
  ]);
  return [
    ...table([
      ['pool', paint('bold', pool.state) + (pool.pausedFor === undefined ? '' : ` (${pool.pausedFor})`)],
      ['grade', `${paint(['bold', gradeStyle[grade.letter]], grade.letter)}  ${grade.because.join(' ')}`],
      [
        'seeds',
        pool.seeded ? `1 and ${pool.reseeds} reseeds, on ${pool.credited} credited bits` : 'none yet',
      ],
      ['given out', `${pool.bytesOut} bytes`],
    ]),
    '',
    ...table([
      ['source', 'family', 'state', 'credit', 'bits', 'assessed', 'samples', 'failures', ''],
      ...rows,
    ]),
    '',
    `${sources.length - here.length} sources are not available here; \`esoteric-appliance scan\` says why.`,
  ];
}
