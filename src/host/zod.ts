// The schemas of everything that is read: zod, told to generate no code. A process that holds keys makes none from strings, and a schema
// that looks at a file or two takes longer to compile than to do without.
import { z } from 'zod';

z.config({ jitless: true });

export { z };
