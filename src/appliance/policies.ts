// Where the program's own data stands: policies/ and provisioning/ beside src/ (checkout) or dist/ (package).
import { fileURLToPath } from 'node:url';

export const packageRoot = fileURLToPath(new URL('../../', import.meta.url));
export const policyPath = (name: string): string => `${packageRoot}policies/${name}`;
export const profilePath = (role: string): string => `${packageRoot}provisioning/${role}.toml`;
/** Of the modules below it: a checkout runs its sources, a package what was built of them. */
export const codeDirectory = import.meta.url.endsWith('.ts') ? 'src' : 'dist';
