import { Command } from '@commander-js/extra-typings';
import { command, configOf, ending } from './command.ts';
import { printJson } from './output.ts';

const show = command('show', 'the configuration that holds, with its defaults and documentation', [
  'config show',
  'config show > /etc/esoteric-appliance/config.toml',
]).action((options) =>
  ending(options.json, async () => {
    const { renderConfig } = await import('../appliance/config.ts');
    const config = await configOf(options);
    if (options.json) printJson(config);
    else process.stdout.write(renderConfig(config));
  }),
);

export const configCommand = new Command('config').description('the configuration').addCommand(show);
