/** Runs the table of certificates against the library's reader and verifier, and the chain check. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  ClientCertificateError,
  readClientCertificateHeader,
} from '../../packages/verify/client-certificate.ts'
import { VerifyError } from '../../packages/verify/errors.ts'
import {
  type ClientAuthorities,
  loadClientAuthorities,
} from '../../src/certificates/client-authorities.ts'
import { accessToken, url, verifierWith } from '../support/verify/fixtures.ts'
import {
  authority,
  type CertificateRow,
  certificateTable,
  type HeaderAttack,
  revoked,
} from './certificate-table.ts'

/** One row and what became of it: nothing here is HTTP. */
export type CertificateResult = Readonly<{
  adapter: 'agents' | 'certificates' | 'identity provider'
  case: string
  expected: string
  got: string
}>

export async function runCertificates(): Promise<CertificateResult[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-attack-'))
  try {
    const [authorityFile, revocationFile] = ['ca.pem', 'crl.pem'].map((name) =>
      path.join(folder, name),
    ) as [string, string]
    await writeFile(authorityFile, authority.cert)
    // One certificate is revoked; intermediates have no lists, and are tried without any.
    await writeFile(revocationFile, await authority.crl([revoked]))
    const listed = await loadClientAuthorities({ authorityFile, revocationFile })
    const unlisted = await loadClientAuthorities({ authorityFile, revocationFile: undefined })
    const results: CertificateResult[] = []
    for (const row of certificateTable) {
      const got = await outcomeOf(row, row.expected === 'revoked' ? listed : unlisted)
      results.push({ adapter: 'certificates', case: row.case, expected: row.expected, got })
    }
    return results
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function outcomeOf(row: CertificateRow, authorities: ClientAuthorities): Promise<string> {
  if ('attack' in row) return headerOutcome(row.attack)
  const { certificate, chain } = row.presented
  const presented = {
    certificate: certificate.certificate,
    thumbprint: certificate.thumbprint,
    chain: chain.map((each) => each.certificate),
  }
  return authorities.check(presented, Date.now()) ?? 'accepted'
}

async function headerOutcome({ format, fromProxy, headers, cnf }: HeaderAttack): Promise<string> {
  try {
    const certificate = readClientCertificateHeader(headers, { trusted: fromProxy, format })
    await verifierWith().verify({
      method: 'GET',
      url,
      headers: [...headers, 'Authorization', `Bearer ${accessToken({ cnf })}`],
      ...(certificate && { certificate }),
    })
    return 'accepted'
  } catch (error) {
    if (error instanceof ClientCertificateError || error instanceof VerifyError) return error.code
    throw error
  }
}
