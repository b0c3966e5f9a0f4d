/** Whether a host, by address or name, is this machine alone: 127.0.0.0/8 (RFC 1122, section 3.2.1.3), ::1 (RFC 4291), `localhost`. */
export const isLoopback = (host: string): boolean => /^(127(\.\d{1,3}){3}|::1|localhost)$/.test(host);
