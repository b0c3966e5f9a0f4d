import { describe, expect, it } from 'vitest';
import { explanations } from '../../src/tpm/library.ts';
import { explainWith, isRetry, normalizedResponse, tpmError } from '../../src/tpm/responses.ts';

describe('response codes of the TPM', () => {
  it('say which condition they are, whatever session or parameter they point at', () => {
    expect(tpmError(0x99d, 'Unseal').code).toBe('tpm-policy');
    expect(tpmError(0x126, 'Unseal').code).toBe('tpm-policy');
    expect(tpmError(0x902, 'Load').code).toBe('tpm-memory');
    expect(tpmError(0x18b, 'ReadPublic').code).toBe('tpm-no-object');
    expect(tpmError(0x1df, 'Load').code).toBe('tpm-foreign-blob');
    expect(normalizedResponse(0x1c4)).toBe(normalizedResponse(0x084));
  });

  it('name the command, the code and the position in the message', () => {
    expect(tpmError(0x99d, 'Unseal').message).toBe(
      'The TPM refused Unseal: the policy is not satisfied (TPM_RC_POLICY_FAIL, session 1, 0x99d).',
    );
    expect(tpmError(0x1c4, 'PolicyPCR').message).toContain('TPM_RC_VALUE, parameter 1, 0x1c4');
    expect(tpmError(0x18b, 'ReadPublic').message).toContain('TPM_RC_HANDLE, handle 1');
  });

  it('explain a lockout without inviting another try', () => {
    const error = tpmError(0x921, 'Unseal');
    expect(error).toMatchObject({ code: 'tpm-lockout', rc: 0x921, layer: 'tpm' });
    expect(error.remedy).toContain('Do not retry');
  });

  it('keep unknown codes as numbers', () => {
    expect(tpmError(0x1ff, 'Quote')).toMatchObject({ code: 'tpm-refused', rc: 0x1ff });
    expect(tpmError(0x13f, 'Quote').message).toBe('The TPM refused Quote with response code 0x13f.');
  });

  it('borrow the words of tpm2-tss, where it is installed and has any', () => {
    explainWith(explanations());
    try {
      expect(tpmError(0x127, 'Quote').message).toBe(
        'The TPM refused Quote with response code 0x127: tpm:error(2.0): PCR check fail.',
      );
      expect(tpmError(0x13f, 'Quote').message).toBe('The TPM refused Quote with response code 0x13f.');
    } finally {
      explainWith(explanations('libno-such.so.0'));
    }
    expect(tpmError(0x127, 'Quote').message).toBe('The TPM refused Quote with response code 0x127.');
  });

  it('tell the layers of tpm2-tss from the TPM, and a resource manager speaking for it', () => {
    expect(tpmError(0xa000a, 'Quote')).toMatchObject({ layer: 'tcti', code: 'tpm-connection-lost' });
    expect(tpmError(0x7001b, 'Quote')).toMatchObject({ layer: 'esys', code: 'tpm-library' });
    expect(tpmError(0x700fe, 'Quote').message).toContain('an unexpected error');
    expect(tpmError(0xc0902, 'Load')).toMatchObject({ layer: 'tpm', code: 'tpm-memory' });
  });

  it('ask for a retry only where the TPM did', () => {
    expect([0x908, 0x90a, 0x920, 0x922].map(isRetry)).toEqual([true, true, true, true]);
    expect([0, 0x921, 0xa0922].map(isRetry)).toEqual([false, false, false]);
  });
});
