// The TPM commands in use, with the parameters of their Esys_*_Async and Esys_*_Finish functions (TSS 2.0 ESAPI,
// section 7; tss2_esys.h).

/**
 * Inputs after the context: h a handle or 32-bit number, w 16 bits, b 8 bits, p a pointer to a structure. `hhh` is the
 * three sessions. Outputs: p a structure that ESYS allocates, n a number.
 */
export const commandTable = {
  Startup: ['w', ''],
  GetCapability: ['hhhhhh', 'np'],
  ReadClock: ['hhh', 'p'],
  GetRandom: ['hhhw', 'p'],
  StartAuthSession: ['hhhhhpbpw', 'n'],
  FlushContext: ['h', ''],
  TR_FromTPMPublic: ['hhhh', 'n'],
  ReadPublic: ['hhhh', 'ppp'],
  CreatePrimary: ['hhhhpppp', 'npppp'],
  Create: ['hhhhpppp', 'ppppp'],
  Load: ['hhhhpp', 'n'],
  LoadExternal: ['hhhpph', 'n'],
  ActivateCredential: ['hhhhhpp', 'p'],
  EvictControl: ['hhhhhh', 'n'],
  Unseal: ['hhhh', 'p'],
  PolicyPCR: ['hhhhpp', ''],
  PolicyOR: ['hhhhp', ''],
  PolicyNV: ['hhhhhhpww', ''],
  PolicyAuthorize: ['hhhhpppp', ''],
  PolicySigned: ['hhhhhppphp', 'pp'],
  PolicySecret: ['hhhhhppph', 'pp'],
  PolicyCommandCode: ['hhhhh', ''],
  PolicyGetDigest: ['hhhh', 'p'],
  PCR_Read: ['hhhp', 'npp'],
  PCR_Extend: ['hhhhp', ''],
  Quote: ['hhhhppp', 'pp'],
  Certify: ['hhhhhpp', 'pp'],
  GetTime: ['hhhhhpp', 'pp'],
  Sign: ['hhhhppp', 'p'],
  VerifySignature: ['hhhhpp', 'p'],
  DictionaryAttackLockReset: ['hhhh', ''],
  DictionaryAttackParameters: ['hhhhhhh', ''],
  NV_DefineSpace: ['hhhhpp', 'n'],
  NV_UndefineSpace: ['hhhhh', ''],
  NV_ReadPublic: ['hhhh', 'pp'],
  NV_Increment: ['hhhhh', ''],
  NV_Read: ['hhhhhww', 'p'],
  NV_Write: ['hhhhhpw', ''],
  NV_Extend: ['hhhhhp', ''],
  NV_Certify: ['hhhhhhppww', 'pp'],
} as const satisfies Record<string, readonly [inputs: string, outputs: string]>;

export type CommandName = keyof typeof commandTable;

export interface Command<Native> {
  readonly name: CommandName;
  readonly outputs: string;
  readonly submit: Native;
  readonly finish: Native;
}

/** ESYS_TR constants (tss2_esys.h). PCRs are their own numbers. */
export const esysHandle = {
  none: 0xfff,
  password: 0x0ff,
  owner: 0x101,
  null: 0x107,
  lockout: 0x10a,
  endorsement: 0x10b,
} as const;

/** No session. */
export const noSessions = [esysHandle.none, esysHandle.none, esysHandle.none] as const;
/** One empty password. */
export const emptyAuth = [esysHandle.password, esysHandle.none, esysHandle.none] as const;
/** Two empty passwords, for commands that use two handles. */
export const emptyAuths = [esysHandle.password, esysHandle.password, esysHandle.none] as const;
