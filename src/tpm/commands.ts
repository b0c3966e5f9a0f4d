// The TPM commands in use, with the parameters of their Esys_*_Async and Esys_*_Finish functions (TSS 2.0 ESAPI,
// section 7; tss2_esys.h) and the sections that define them (TPM 2.0 Library, Part 3: Commands, revision 1.83).

/**
 * Inputs after the context: h a handle or 32-bit number, w 16 bits, b 8 bits, p a pointer to a structure. `hhh` is the
 * three sessions. Outputs: p a structure that ESYS allocates, n a number. Then the section of Part 3.
 */
export const commandTable = {
  Startup: ['w', '', '9.3'],
  GetCapability: ['hhhhhh', 'np', '30.2'],
  ReadClock: ['hhh', 'p', '29.1'],
  GetRandom: ['hhhw', 'p', '16.1'],
  StartAuthSession: ['hhhhhpbpw', 'n', '11.1'],
  FlushContext: ['h', '', '28.4'],
  TR_FromTPMPublic: ['hhhh', 'n', '12.4'], // or 31.6: ESYS asks for the public area of an object or an index
  ReadPublic: ['hhhh', 'ppp', '12.4'],
  CreatePrimary: ['hhhhpppp', 'npppp', '24.1'],
  Create: ['hhhhpppp', 'ppppp', '12.1'],
  Load: ['hhhhpp', 'n', '12.2'],
  LoadExternal: ['hhhpph', 'n', '12.3'],
  ActivateCredential: ['hhhhhpp', 'p', '12.5'],
  EvictControl: ['hhhhhh', 'n', '28.5'],
  Unseal: ['hhhh', 'p', '12.7'],
  PolicyPCR: ['hhhhpp', '', '23.7'],
  PolicyOR: ['hhhhp', '', '23.6'],
  PolicyNV: ['hhhhhhpww', '', '23.9'],
  PolicyAuthorize: ['hhhhpppp', '', '23.16'],
  PolicySigned: ['hhhhhppphp', 'pp', '23.3'],
  PolicySecret: ['hhhhhppph', 'pp', '23.4'],
  PolicyCommandCode: ['hhhhh', '', '23.11'],
  PolicyGetDigest: ['hhhh', 'p', '23.19'],
  PCR_Read: ['hhhp', 'npp', '22.4'],
  PCR_Extend: ['hhhhp', '', '22.2'],
  Quote: ['hhhhppp', 'pp', '18.4'],
  Certify: ['hhhhhpp', 'pp', '18.2'],
  GetTime: ['hhhhhpp', 'pp', '18.7'],
  Sign: ['hhhhppp', 'p', '20.2'],
  VerifySignature: ['hhhhpp', 'p', '20.1'],
  DictionaryAttackLockReset: ['hhhh', '', '25.2'],
  DictionaryAttackParameters: ['hhhhhhh', '', '25.3'],
  NV_DefineSpace: ['hhhhpp', 'n', '31.3'],
  NV_UndefineSpace: ['hhhhh', '', '31.4'],
  NV_ReadPublic: ['hhhh', 'pp', '31.6'],
  NV_Increment: ['hhhhh', '', '31.8'],
  NV_Read: ['hhhhhww', 'p', '31.13'],
  NV_Write: ['hhhhhpw', '', '31.7'],
  NV_Extend: ['hhhhhp', '', '31.9'],
  NV_Certify: ['hhhhhhppww', 'pp', '31.16'],
} as const satisfies Record<string, readonly [inputs: string, outputs: string, section: string]>;

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
