// The reference of unseal-c: what src/tpm does to unseal a key, as a C program on ESYS (TSS 2.0 ESAPI). In one process and on one
// context, again and again: load, a policy session salted to the storage root key with AES-128-CFB parameter encryption,
// PolicyPCR, unseal, flush both. For each round after the first, which warms up, it prints the microseconds that it took.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>

static void require(TSS2_RC rc, const char *what) {
  if (rc == TSS2_RC_SUCCESS) return;
  fprintf(stderr, "%s: 0x%x\n", what, rc);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static size_t read_file(const char *path, uint8_t *into, size_t room) {
  FILE *file = fopen(path, "rb");
  size_t length = file == NULL ? 0 : fread(into, 1, room, file);
  if (length == 0) require(1, path);
  fclose(file);
  return length;
}

// PCRs 0 to 23 of the SHA-256 bank, by number with commas between.
static TPML_PCR_SELECTION selection_of(const char *list) {
  TPML_PCR_SELECTION selection = {.count = 1};
  selection.pcrSelections[0].hash = TPM2_ALG_SHA256;
  selection.pcrSelections[0].sizeofSelect = 3;
  for (char *at = (char *)list; *at != '\0'; at += *at == ',') {
    unsigned pcr = strtoul(at, &at, 10);
    selection.pcrSelections[0].pcrSelect[pcr / 8 % 3] |= 1 << pcr % 8;
  }
  return selection;
}

static size_t unseal(ESYS_CONTEXT *esys, ESYS_TR root, const TPM2B_PUBLIC *public, const TPM2B_PRIVATE *private,
                     const TPML_PCR_SELECTION *pcrs) {
  const TPMT_SYM_DEF aes = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
  const TPMA_SESSION attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;
  const TPM2B_DIGEST any_value = {0};
  TPM2B_SENSITIVE_DATA *secret;
  ESYS_TR object, session;
  require(Esys_Load(esys, root, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, private, public, &object), "Load");
  require(Esys_StartAuthSession(esys, root, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, NULL,
                                TPM2_SE_POLICY, &aes, TPM2_ALG_SHA256, &session), "StartAuthSession");
  require(Esys_TRSess_SetAttributes(esys, session, attributes, 0xff), "SetAttributes");
  require(Esys_PolicyPCR(esys, session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &any_value, pcrs), "PolicyPCR");
  require(Esys_Unseal(esys, object, session, ESYS_TR_NONE, ESYS_TR_NONE, &secret), "Unseal");
  size_t length = secret->size;
  explicit_bzero(secret, sizeof *secret);
  Esys_Free(secret);
  require(Esys_FlushContext(esys, session), "FlushContext");
  require(Esys_FlushContext(esys, object), "FlushContext");
  return length;
}

int main(int count, char **arguments) {
  if (count != 7) {
    fprintf(stderr, "usage: %s TCTI HANDLE PUBLIC PRIVATE PCRS ROUNDS\n", arguments[0]);
    return 2;
  }
  uint8_t wire[4096];
  size_t offset = 0;
  TPM2B_PUBLIC public = {0};
  TPM2B_PRIVATE private = {0};
  require(Tss2_MU_TPM2B_PUBLIC_Unmarshal(wire, read_file(arguments[3], wire, sizeof wire), &offset, &public), "PUBLIC");
  offset = 0;
  require(Tss2_MU_TPM2B_PRIVATE_Unmarshal(wire, read_file(arguments[4], wire, sizeof wire), &offset, &private), "PRIVATE");
  const TPML_PCR_SELECTION pcrs = selection_of(arguments[5]);
  const int rounds = atoi(arguments[6]);
  TSS2_TCTI_CONTEXT *tcti;
  ESYS_CONTEXT *esys;
  ESYS_TR root;
  require(Tss2_TctiLdr_Initialize(arguments[1], &tcti), "TCTI");
  require(Esys_Initialize(&esys, tcti, NULL), "ESYS");
  require(Esys_TR_FromTPMPublic(esys, strtoul(arguments[2], NULL, 0), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &root),
          "the storage root key");
  for (int round = 0; round <= rounds; round++) {
    double began = now();
    if (unseal(esys, root, &public, &private, &pcrs) == 0) require(1, "The secret is empty");
    if (round > 0) printf("%.1f\n", now() - began);
  }
  Esys_Finalize(&esys);
  Tss2_TctiLdr_Finalize(&tcti);
  return 0;
}
