// Which units' entries a bundle takes of the journal. The named set `default` is this program's own and what configures networks on
// Fedora, RHEL, Rocky, Debian and Ubuntu: entries by unit where these run as one, by identifier where they run below another
// (dhclient below ifupdown) or as an instance (wpa_supplicant@wlan0).
import type { JournalSelection } from './read.ts';

const own = ['esoteric-appliance', 'esoteric-courier'];

const networkUnits = [
  // Fedora, RHEL, Rocky; also Ubuntu's desktop.
  'NetworkManager',
  'NetworkManager-dispatcher',
  'NetworkManager-wait-online',
  'ModemManager',
  'network', // initscripts, up to RHEL 8
  // Ubuntu's server (netplan), and others that chose it.
  'systemd-networkd',
  'systemd-networkd-wait-online',
  'systemd-resolved',
  'networkd-dispatcher',
  // Debian: ifupdown, ifupdown2 or ifupdown-ng.
  'networking',
  'ifupdown-pre',
  // Anywhere.
  'dhcpcd',
  'iwd',
  'wpa_supplicant',
  'systemd-udevd', // Names interfaces.
  'firewalld',
  'nftables',
  'netfilter-persistent',
  'iptables',
  'ip6tables',
  'ufw',
];

const networkIdentifiers = [
  'NetworkManager',
  'dhclient',
  'dhcpcd',
  'udhcpc',
  'ifup',
  'ifdown',
  'wpa_supplicant',
  'hostapd',
  'teamd',
  'wg-quick',
];

/**
 * What journalctl is to be asked for: names as `--unit` takes them, `default`, or `all`; no name is all as well. `default` is all
 * where `ownJournal` is false: a namespace, or a journal that was put aside, has been chosen already.
 */
export function unitSelection(
  units: readonly string[],
  ownJournal: boolean,
): Pick<JournalSelection, 'units' | 'matches'> {
  const named = units.filter((unit) => unit !== 'default' && unit !== 'all');
  if (units.includes('all') || (units.includes('default') && !ownJournal)) return {};
  if (!units.includes('default')) return { units: named };
  const services = [...[...own, ...networkUnits].map(service), ...named.map(service)];
  const identifiers = [...own, ...networkIdentifiers];
  return {
    matches: [
      ...services.map((unit) => `_SYSTEMD_UNIT=${unit}`),
      '+',
      '_PID=1', // systemd's own word about them: started, failed, killed.
      ...services.map((unit) => `UNIT=${unit}`),
      '+',
      ...identifiers.map((identifier) => `SYSLOG_IDENTIFIER=${identifier}`),
    ],
  };
}

/** As journalctl completes a name. */
const service = (unit: string): string =>
  /\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$/.test(unit)
    ? unit
    : `${unit}.service`;
