// Errors as S3 answers them: a code, an HTTP status, XML (Amazon S3 API reference, "Error responses").

export class S3Error extends Error {
  readonly code: string;
  readonly status: number;
  /** Further elements of the error document, such as the expected Region. */
  readonly details: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, details: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }

  toXml(resource: string): string {
    return xml('Error', {
      Code: this.code,
      Message: this.message,
      ...this.details,
      Resource: resource,
      RequestId: '0',
    });
  }
}

export const notImplemented = (what: string): S3Error =>
  new S3Error(501, 'NotImplemented', `This server does not implement ${what}.`);

export const invalidRequest = (message: string): S3Error => new S3Error(400, 'InvalidRequest', message);

type XmlValue = string | number | boolean | XmlChildren | readonly XmlValue[];
interface XmlChildren {
  readonly [name: string]: XmlValue;
}

/** A document with one root; an array becomes repeated elements. */
export function xml(root: string, children: XmlChildren): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element(root, children)}`;
}

function element(name: string, value: XmlValue): string {
  if (Array.isArray(value)) return value.map((one) => element(name, one)).join('');
  const inner =
    typeof value === 'object'
      ? Object.entries(value)
          .map(([child, content]) => element(child, content))
          .join('')
      : String(value).replace(/[<>&"\r]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<${name}>${inner}</${name}>`;
}
