import { writeFileSync } from 'node:fs';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { OutboxRow } from '../../src/alerts/outbox.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { runChild } from '../../src/host/child.ts';
import { listInterfaces } from '../../src/host/netlink.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { startWebhook } from '../lab/webhook.ts';
import { childrenOf, freePort, labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
