// All noise sources there are. A new one is a new file, or a part of a family's file, in sources/ and a line here.
import { readdirSync } from 'node:fs';
import type { NoiseSource, SourceSettings } from './source.ts';
import { beats } from './sources/beats.ts';
import { audioNoise, cameraNoise, gpuTiming } from './sources/capture.ts';
import { clockJitter, counterJitter, sleepJitter, systemCallTiming } from './sources/clocks.ts';
import { device, serialLine } from './sources/devices.ts';
import { diskTiming } from './sources/disk.ts';
import { hwrng, tpmRandom } from './sources/generators.ts';
import { kernelSources, processTable } from './sources/kernel.ts';
import { memoryTiming } from './sources/memory.ts';
import { dnsTiming, tcpTiming } from './sources/network.ts';
import { packetTiming, simulatedInterface } from './sources/packets.ts';
import { compressionTiming, hashTiming } from './sources/processing.ts';
import { bluetoothSignal, wifiSignal } from './sources/radio.ts';
import { fileMetadataTiming, libraryLoading, pageMapping, workerDispatch } from './sources/scheduling.ts';
import { hwmonSensors, sysWalk } from './sources/sensors.ts';
import { cacheContention, dramRowBuffer, pageFaultTiming, speculation } from './sources/silicon.ts';

/** In the order in which a seed asks them: what costs least first, and the first is what the first seed waits for. */
export function noiseSources(settings: SourceSettings): NoiseSource[] {
  return [
    hashTiming,
    pageFaultTiming,
    systemCallTiming,
    memoryTiming,
    clockJitter,
    counterJitter,
    dramRowBuffer,
    cacheContention,
    speculation,
    ...beats,
    compressionTiming,
    libraryLoading,
    pageMapping,
    sleepJitter,
    workerDispatch,
    diskTiming(settings.directory),
    fileMetadataTiming(settings.directory),
    ...kernelSources,
    processTable,
    sysWalk(),
    hwmonSensors(),
    gpuTiming(settings.gpu ?? true),
    audioNoise(settings.audioDevice),
    cameraNoise(settings.cameraDevice),
    bluetoothSignal,
    wifiSignal(),
    dnsTiming(settings.dnsServers ?? []),
    tcpTiming(settings.tcpHosts ?? []),
    hwrng(),
    tpmRandom(settings.tcti),
    ...(settings.devices ?? []).map(device),
    ...(settings.serialLines ?? []).map(serialLine),
    ...(settings.interfaces ?? []).flatMap(ingested),
  ];
}

/** A data interface of the node as a source. */
function ingested(name: string): NoiseSource[] {
  if (/^CPU(\[?\d{1,4}\]?)?$/.test(name)) return [simulatedInterface(name)];
  return name === 'any' ? interfaceNames().map(packetTiming) : [packetTiming(name)];
}

function interfaceNames(): string[] {
  try {
    return readdirSync('/sys/class/net').filter((name) => name !== 'lo');
  } catch {
    return [];
  }
}
