import { Command, Option } from '@commander-js/extra-typings';
import { levels } from '../interlock/causes.ts';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine } from './output.ts';

const sign = new Command('sign')
  .description('sign a command off the node; the key never comes near it')
  .requiredOption('--key <file>', 'Ed25519 private key (PEM)')
  .requiredOption('--node <name>', 'the node that is to obey')
  .requiredOption(
    '--number <n>',
    'above every number that this node has obeyed, such as the time: `date +%s`',
  )
  .addOption(new Option('--level <level>', 'how far').choices(levels).default('lock' as const))
  .requiredOption('--reason <text>', 'why; goes into the custody log')
  .option('--json', 'one JSON document on stdout (which it is in any case)')
  .addHelpText(
    'after',
    '\nExamples:\n  $ esoteric-appliance remote sign --key key.pem --node alpha --number $(date +%s) --reason stolen > command.json',
  )
  .action(({ key, node, number, level, reason, json }) =>
    ending(json, async () => {
      const { signCommand } = await import('../appliance/sign-command.ts');
      printJson(signCommand({ key, node, number: Number(number), level, reason }));
    }),
  );

const send = command('send', 'give a signed command to the running node (root only)', [
  'remote send command.json',
])
  .argument('<file>', 'what `remote sign` printed')
  .action((file, options) =>
    ending(options.json, async () => {
      const { readSigned } = await import('../appliance/sign-command.ts');
      const { askNode } = await import('../appliance/control.ts');
      const { stateLayout } = await import('../appliance/state-layout.ts');
      const { control } = stateLayout((await configOf(options)).node.state_dir);
      const accepted = await askNode<{ number: number; level: string }>(control, 'command', {
        command: readSigned(file),
      });
      if (options.json) printJson(accepted);
      else printLine(`Command ${accepted.number} is obeyed (level ${accepted.level}).`);
    }),
  );

export const remoteCommand = new Command('remote')
  .description('commands from afar: signed off the node, each good for once')
  .addCommand(sign)
  .addCommand(send);
