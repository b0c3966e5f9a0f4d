// A line of a GPIO chip as a descriptor that becomes readable at an edge (linux/gpio.h, version 2 of its interface).
import { closeSync, constants, openSync } from 'node:fs';
import { Failure } from './failure.ts';
import { errno, errnoName, ioctl } from './libc.ts';

export type Edge = 'rising' | 'falling' | 'both';

/** GPIO_V2_GET_LINE_IOCTL. */
const getLine = 0xc250b407;
const requestLength = 592;
const at = { offsets: 0, consumer: 256, flags: 288, lines: 560, fd: 588 } as const;
const flag = { input: 1 << 2, rising: 1 << 4, falling: 1 << 5 } as const;

/** `struct gpio_v2_line_request` for one input line. */
export function lineRequest(line: number, edge: Edge): Uint8Array {
  const request = new Uint8Array(requestLength);
  const view = new DataView(request.buffer);
  view.setUint32(at.offsets, line, true);
  request.set(Buffer.from('esoteric-appliance'), at.consumer);
  const edges = { rising: flag.rising, falling: flag.falling, both: flag.rising | flag.falling }[edge];
  view.setBigUint64(at.flags, BigInt(flag.input | edges), true);
  view.setUint32(at.lines, 1, true);
  return request;
}

/** @throws Failure `gpio-unavailable`. */
export function openLine(chip: string, line: number, edge: Edge): number {
  const fd = openSync(chip, constants.O_RDONLY);
  try {
    const request = lineRequest(line, edge);
    if (ioctl(fd, getLine, request) !== 0) {
      throw new Failure('gpio-unavailable', `Line ${line} of ${chip} was refused: ${errnoName(errno())}.`, {
        kept: 'No key has been unsealed.',
        remedy: 'See that nobody else holds the line (`gpioinfo`).',
      });
    }
    return new DataView(request.buffer).getInt32(at.fd, true);
  } finally {
    closeSync(fd);
  }
}
