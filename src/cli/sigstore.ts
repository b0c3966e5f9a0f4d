import { Command } from '@commander-js/extra-typings';
import { command, configOf, ending, stopSignal } from './command.ts';
import { logLine, paint, plain, printJson, printLine, table } from './output.ts';

const login = command(
  'login',
  'sign in at sigstore.issuer for the courier: prints an address and a code, waits, and leaves the token with the courier',
  ['sigstore login'],
).action((options) =>
  ending(options.json, async () => {
    const { login: signIn } = await import('../appliance/sigstore-login.ts');
    const made = await signIn(
      await configOf(options),
      ({ address, completeAddress, code, seconds }) => {
        logLine(`Open ${plain(address)} in a browser, on any machine, and enter the code`);
        logLine('');
        logLine(`    ${paint('bold', plain(code), process.stderr)}`);
        logLine('');
        if (completeAddress !== null) logLine(`(or open ${plain(completeAddress)}, which has it in it).`);
        logLine(`The code is good for ${seconds} s. Waiting…`);
      },
      stopSignal(),
    );
    if (options.json) printJson(made);
    else {
      const until = made.renewable
        ? 'the courier renews it by itself'
        : `good until ${made.expires}; the issuer gives nothing to renew it by`;
      printLine(`Signed in as ${plain(made.subject ?? 'nobody')} at ${plain(made.issuer)}: ${until}.`);
    }
  }),
);

const status = command(
  'status',
  'where the courier has its identity token from, whose it is and how long it is good',
  ['sigstore status', 'sigstore status --json'],
).action((options) =>
  ending(options.json, async () => {
    const { identityStatus } = await import('../appliance/sigstore-login.ts');
    const found = identityStatus(await configOf(options));
    if (options.json) {
      printJson(found);
      return;
    }
    const { source, identity, token, problem } = found;
    const rows = [
      ['nodes prove', identity ?? 'nobody (sigstore.identity is not set)'],
      ['token from', source ?? 'nowhere'],
      ...(token === null
        ? []
        : [
            ['subject', plain(token.subject ?? 'an email that is not verified')],
            ['issuer', plain(token.issuer)],
            ['expires', token.renewable ? `${token.expires}, and is renewed` : token.expires],
          ]),
      ...(problem === null ? [] : [['problem', paint('yellow', problem)]]),
    ];
    for (const line of table(rows)) printLine(line);
  }),
);

const logout = command('logout', 'forget the sign-in, here and at the issuer', ['sigstore logout']).action(
  (options) =>
    ending(options.json, async () => {
      const { logout: signOut } = await import('../appliance/sigstore-login.ts');
      const made = await signOut(await configOf(options));
      if (options.json) printJson(made);
      else if (!made.removed) printLine('Nobody had signed in.');
      else printLine(made.revoked ? 'Forgotten, here and at the issuer.' : 'Forgotten here.');
    }),
);

export const sigstoreCommand = new Command('sigstore')
  .description('the identity that the courier countersigns bundles under')
  .addCommand(login)
  .addCommand(status)
  .addCommand(logout);
