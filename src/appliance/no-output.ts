// How commands that give out random bytes end where there is no good seed to make them from.
import { exitStatus, Failure } from '../host/failure.ts';

const withoutSeed: ReadonlySet<string> = new Set([
  'entropy-not-ready',
  'entropy-uncredited',
  'entropy-unhealthy',
]);

/** What ends because there is no good seed ends as it does after a zeroize: with nothing, and status 4. */
export async function orNoOutput<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Failure) || !withoutSeed.has(error.code)) throw error;
    const { code, message, kept, remedy } = error;
    throw new Failure(code, message, {
      ...(kept === undefined ? {} : { kept }),
      ...(remedy === undefined ? {} : { remedy }),
      status: exitStatus.zeroized,
      cause: error,
    });
  }
}
