// The courier's S3 credentials from a file in the format of ~/.aws/credentials, as the AWS tools write it.
import { existsSync, readFileSync } from 'node:fs';
import type { UploadCredentials } from '../forensics/deliver.ts';
import { Failure } from '../host/failure.ts';

/** Those of the `[default]` profile; undefined where no file is named, which leaves it to the chain of the AWS SDK. @throws Failure `s3-credentials`. */
export function credentialsFrom(path: string): UploadCredentials | undefined {
  if (path === '') return undefined;
  const missing = (why: string): Failure =>
    new Failure('s3-credentials', `The courier has no S3 credentials: ${why}.`, {
      kept: 'The bundle is kept on this node, and its delivery will be tried again.',
      remedy:
        'Name a file with aws_access_key_id and aws_secret_access_key of [default] in courier.s3_credentials_file.',
    });
  if (!existsSync(path)) throw missing(`${path} is missing`);
  const profile = defaultProfile(readFileSync(path, 'utf8'));
  const accessKeyId = profile.get('aws_access_key_id');
  const secretAccessKey = profile.get('aws_secret_access_key');
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw missing(`${path} holds none of the profile [default]`);
  const sessionToken = profile.get('aws_session_token');
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

/** What stands before any section is of the default profile too. */
function defaultProfile(text: string): Map<string, string> {
  const values = new Map<string, string>();
  let section = 'default';
  for (const line of text.split('\n')) {
    const said = line.replace(/(^|\s)[#;].*$/s, '').trim();
    const opened = /^\[\s*(.*?)\s*\]$/.exec(said)?.[1];
    const [, key, value] = /^(\w+)\s*=\s*(\S+)$/.exec(said) ?? [];
    if (opened !== undefined) section = opened;
    else if (section === 'default' && key !== undefined && value !== undefined) values.set(key, value);
  }
  return values;
}
