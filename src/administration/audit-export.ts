import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import {
  CompactSign,
  calculateJwkThumbprint,
  compactVerify,
  decodeProtectedHeader,
  importJWK,
  type JWK,
} from 'jose'
import { z } from 'zod'
import { isSigningAlgorithm, type KeyMaterial } from '../keys/key-purpose.ts'
import type { AuditTable } from '../storage/audit-table.ts'
import type { SigningKeyTable } from '../storage/signing-key-table.ts'
import { AdministrationError } from './administration-error.ts'
import { existsAlready, withoutFile, writeNewFile } from './new-file.ts'

/** The type of the signature (RFC 8725 section 3.11): no token is one, and it is no token. */
const signatureType = 'holdfast-audit-export+jws'

/** Milliseconds for which a row may be on its way to the database. */
const settledMs = 60_000

/** What is signed. The rows are in a file of their own, which `sha256` names. */
const manifestSchema = z.strictObject({
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  events: z.int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  exported_at: z.iso.datetime(),
})

export type AuditManifest = z.output<typeof manifestSchema>

export const signatureFileOf = (file: string) => `${file}.jws`

/**
 * Writes the events from one time until before another to a new file, one JSON object a line in the
 * order of their times, and a signature beside it: a compact JWS of {@link AuditManifest} by a key
 * of the server, whose public half is in the header. Some rows at a time are in memory.
 *
 * @throws AdministrationError when `to` is not past, or one of the files exists.
 */
export async function exportAudit(
  { from, to, file }: { from: Date; to: Date; file: string },
  { audit, key, now }: { audit: AuditTable; key: KeyMaterial; now: () => number },
): Promise<AuditManifest> {
  if (to.getTime() > now() - settledMs) {
    throw new AdministrationError(
      'invalid_request',
      'The end of an export must be a minute ago or earlier: what is being written now would be missing.',
    )
  }
  const digest = createHash('sha256')
  let events = 0
  async function* lines() {
    for await (const row of audit.between(from, to)) {
      const line = `${JSON.stringify(row)}\n`
      digest.update(line)
      events += 1
      yield line
    }
  }
  await writeNewFile(file, lines())
  const manifest = {
    from: from.toISOString(),
    to: to.toISOString(),
    events,
    sha256: digest.digest('hex'),
    exported_at: new Date(now()).toISOString(),
  }
  try {
    const signature = await sign(manifest, key)
    await writeFile(signatureFileOf(file), `${signature}\n`, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST'
    throw await withoutFile(file, isThere ? existsAlready(signatureFileOf(file)) : error)
  }
  return manifest
}

async function sign(manifest: AuditManifest, key: KeyMaterial): Promise<string> {
  const { kty, crv, x, y, n, e, alg = '' } = key
  const jwk = JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })) as JWK
  return new CompactSign(new TextEncoder().encode(JSON.stringify(manifest)))
    .setProtectedHeader({ alg, typ: signatureType, kid: key.kid, jwk })
    .sign(await importJWK(key, alg))
}

/** What is wrong with an export: the sentence says it. */
function refuse(sentence: string): AdministrationError {
  return new AdministrationError('invalid_request', sentence)
}

/**
 * Checks that a file is as it was exported: its signature, its digest, and that the key belongs to
 * the server. Whether the server exported everything that it had is not checked.
 *
 * @param isKnownKey - by the RFC 7638 thumbprint of the key: whether it is one of the server's.
 * @throws AdministrationError
 */
export async function verifyAudit(
  file: string,
  isKnownKey: (kid: string) => Promise<boolean>,
): Promise<AuditManifest & { kid: string }> {
  const signatureFile = signatureFileOf(file)
  const signature = await readFile(signatureFile, 'utf8').catch(() => {
    throw refuse(`${signatureFile} cannot be read. The signature must be beside the file.`)
  })
  const { manifest, kid } = await verifySignature(signature.trim()).catch(() => {
    throw refuse(`The signature in ${signatureFile} is not valid.`)
  })
  const digest = createHash('sha256')
  await pipeline(createReadStream(file), digest).catch(() => {
    throw refuse(`${file} cannot be read.`)
  })
  if (digest.digest('hex') !== manifest.sha256) {
    throw refuse(`${file} differs from what was signed: it was changed after its export.`)
  }
  if (!(await isKnownKey(kid))) {
    throw refuse(
      `The key ${kid} that signed ${signatureFile} is not one of this server. ` +
        'If you know it by other means, name it with --kid.',
    )
  }
  return { ...manifest, kid }
}

async function verifySignature(jws: string): Promise<{ manifest: AuditManifest; kid: string }> {
  const { alg = '', jwk, typ } = decodeProtectedHeader(jws)
  if (typ !== signatureType || !isSigningAlgorithm(alg) || !jwk) throw new TypeError('wrong header')
  const { payload } = await compactVerify(jws, await importJWK(jwk, alg))
  const manifest = manifestSchema.parse(JSON.parse(new TextDecoder().decode(payload)))
  return { manifest, kid: await calculateJwkThumbprint(jwk) }
}

/** Whether the server has, or had, a signing key: by its rows, or by the audit trail. */
export async function isServerKey(
  kid: string,
  { signingKeys, audit }: { signingKeys: SigningKeyTable; audit: AuditTable },
): Promise<boolean> {
  const { keys } = await signingKeys.list()
  if (keys.some((key) => key.kid === kid)) return true
  for (let after: number | undefined = 0; after !== undefined; ) {
    const made = await audit.list({ event: 'key.made', after, limit: 500 })
    if (made.some(({ details }) => details.kid === kid)) return true
    after = made.at(-1)?.id
  }
  return false
}
