// `completion`: a script that has the shell complete commands, options and what these take, made from the commands themselves.
import { Argument, Command, type Option } from '@commander-js/extra-typings';
import { printLine } from './output.ts';

const shells = ['bash', 'zsh'] as const;

export const completionCommand = new Command('completion')
  .description('a script that has the shell complete commands and options')
  .addArgument(new Argument('<shell>', 'which one').choices(shells))
  .addHelpText(
    'after',
    `
Examples:
  $ esoteric-appliance completion bash > /etc/bash_completion.d/esoteric-appliance
  $ . <(esoteric-appliance completion zsh)    # in ~/.zshrc, after compinit`,
  )
  .action((shell, _options, command) => {
    const program = command.parent as unknown as Command | null;
    if (program === null) return;
    // What bash's functions need, zsh brings along.
    if (shell === 'zsh') printLine('autoload -U +X bashcompinit && bashcompinit');
    printLine(scriptFor(program));
  });

/** A command, with the words that lead to it: none for the program. */
interface Place {
  readonly path: string;
  readonly command: Command;
}

/** The script. Where none of our words can stand, the shell completes names of files. */
function scriptFor(program: Command): string {
  const places = [...placesOf('', program)];
  const steps = places.filter(({ path }) => path !== '').map(({ path }) => quoted(path));
  const options = places.flatMap(({ path, command }) =>
    command.options.map((option) => ({ path, option: option as Option })),
  );
  const chosen = options.flatMap(({ path, option: { argChoices, ...option } }) =>
    argChoices === undefined
      ? []
      : [armOf(flagsOf(option as Option, `${path} `).map(quoted), wordsFrom(argChoices))],
  );
  const free = options
    .filter(({ option }) => (option.required || option.optional) && option.argChoices === undefined)
    .flatMap(({ option }) => flagsOf(option, ' '));
  const words = places.map(({ path, command }) => armOf([quoted(path)], wordsFrom(wordsOf(command))));
  const name = program.name();
  const complete = `_${name.replaceAll('-', '_')}`;
  return `${complete}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" path= words= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${path:+$path }\${COMP_WORDS[i]}" in
      ${steps.join(' | ')}) path="\${path:+$path }\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path $previous" in
    ${chosen.join('\n    ')}
    ${[...new Set(free)].map((flag) => `*${quoted(flag)}`).join(' | ')}) return ;;
  esac
  [ -n "$words" ] || case "$path" in
    ${words.join('\n    ')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F ${complete} ${name}`;
}

function* placesOf(path: string, command: Command): Generator<Place> {
  yield { path, command };
  for (const nested of command.commands as unknown as Command[])
    yield* placesOf(`${path} ${nested.name()}`.trimStart(), nested);
}

const wordsOf = (command: Command): string[] => [
  ...(command.commands as unknown as Command[]).map((nested) => nested.name()),
  ...command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  ...command.options.flatMap(({ long }) => long ?? []),
  '--help',
];

const flagsOf = ({ long, short }: Option, before: string): string[] =>
  [long, short].flatMap((flag) => (flag == null ? [] : [before + flag]));

const armOf = (patterns: readonly string[], then: string): string => `${patterns.join(' | ')}) ${then} ;;`;

const wordsFrom = (words: readonly string[]): string => `words=${quoted(words.join(' '))}`;

/** None of the words has a quote. */
const quoted = (text: string): string => `'${text}'`;
