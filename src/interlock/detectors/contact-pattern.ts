// How the configuration names a tamper contact; apart from what opens one, so that reading a configuration loads no native code.

/** fifo:PATH, or gpio:CHIP:LINE with an edge. */
export const contactPattern = /^(?:fifo:(\/.+)|gpio:(\/[^:]+):(\d{1,4})(?::(rising|falling|both))?)$/;
