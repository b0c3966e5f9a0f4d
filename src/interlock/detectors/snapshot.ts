// A virtual machine that was restored from a snapshot or copied. The hypervisor gives it a new generation identifier (Virtual
// Machine Generation ID, "VMGENID"); the kernel announces that by an event of the device (drivers/virt/vmgenid.c), and some
// platforms show the identifier in a file.
import { readFileSync } from 'node:fs';

/** Whether a kernel event (uevent: parts that end in NUL) announces a new generation. */
export function announcesGeneration(event: Uint8Array): boolean {
  return Buffer.from(event).toString('latin1').split('\0').includes('NEW_VMGENID=1');
}

/** Content of the file that shows the generation, or why it cannot be read: one is not the other. */
export function generationIn(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch (error) {
    return `unreadable: ${(error as NodeJS.ErrnoException).code}`;
  }
}
