import { hash, X509Certificate } from 'node:crypto'
import { Agent } from 'node:https'
import { isAvailable } from '@holdfast/token-binding-tls'
import { generateKeyPair } from 'jose'
import { makeClientCertificate } from './client-certificate.ts'
import { type Finding, finding } from './finding.ts'
import { claimingFields, doctorPath, type Observation } from './observation.ts'
import { makeProof } from './proof.ts'
import { defaultPatience, type Sent, send, type Target } from './request.ts'
import { examineTokenBinding } from './token-binding.ts'

export interface ExaminationOptions {
  readonly tokenBindingAvailable?: boolean
  /** Told of each check that begins: how many of how many are done before it. */
  readonly onStep?: (check: string, done: number, total: number) => void
}

/** Without those of Token Binding, and with those of certificates. */
const checks = 12
const tokenBindingChecks = 2

/**
 * Sends real requests through a deployment and compares what was sent with what arrived.
 *
 * @param target the issuer, as clients write it.
 */
export async function examine(
  target: Target,
  { tokenBindingAvailable: available = isAvailable(), onStep = () => {} }: ExaminationOptions = {},
): Promise<Finding[]> {
  const { url } = target
  const findings: Finding[] = []
  let total = checks
  const begin = (check: string) => onStep(check, findings.length, total)
  /** What a check comes to: what is without advice is well. */
  async function look(check: string, advise: () => Promise<string | undefined>): Promise<void> {
    begin(check)
    findings.push(finding(check, await advise()))
  }

  begin('the deployment is reached')
  const arrival = await send(target)
  if (typeof arrival === 'string') return [finding('the deployment is reached', arrival)]
  const { mode } = arrival.tokenBinding
  if (mode !== 'off') total += tokenBindingChecks
  findings.push(finding('the deployment is reached', undefined))
  await look('the public address is the configured one', async () => addressAdvice(url, arrival))

  await look("the client's address arrives", async () =>
    clientAddressAdvice(arrival, await send(target, ['X-Forwarded-For', forgedAddress])),
  )

  const key = await generateKeyPair('ES256', { extractable: true })
  const proof = await makeProof(key, { method: 'GET', url: url + doctorPath })
  await look('a DPoP proof arrives as it was sent', async () =>
    proofAdvice(await send(target, ['DPoP', proof])),
  )
  await look('two DPoP headers arrive as two', async () =>
    repeatedAdvice(await send(target, ['DPoP', proof, 'DPoP', proof])),
  )

  const { base64, cert } = await makeClientCertificate('spoofed')
  const spoofed = claimingFields.flatMap((name) => [name, claim(name, base64, cert)])
  await look('claims of a client are removed', async () => spoofAdvice(await send(target, spoofed)))

  if (mode !== 'off') {
    begin('a Token Binding arrives')
    findings.push(...(await examineTokenBinding(target, { mode, available })))
  }

  const metadata = await readMetadata(`${url}/.well-known/openid-configuration`, target)
  await look('metadata is where clients look for it', async () =>
    metadataAdvice(url, metadata, await readMetadata(rfc8414(url), target)),
  )

  const mtlsUrl = metadata?.mtls_endpoint_aliases?.token_endpoint?.replace(/\/token$/, '')
  begin(announced)
  findings.push(mtlsUrl === undefined ? unannounced(arrival) : finding(announced, undefined))
  if (mtlsUrl === undefined) return findings
  const mtls = { ...target, url: mtlsUrl }
  const mine = await makeClientCertificate('doctor')
  const thumbprint = hash('sha256', new X509Certificate(mine.cert).raw, 'base64url')
  const agent = new Agent({ cert: mine.cert, key: mine.key })
  await look('a certificate arrives', async () =>
    certificateAdvice(await send(mtls, [], agent), thumbprint, mtlsUrl),
  )
  await look('claims of a client are removed where certificates are asked for', async () =>
    spoofAdvice(await send(mtls, spoofed)),
  )
  await look('a certificate does not stand beside a claim', async () =>
    besideAdvice(await send(mtls, spoofed, agent), thumbprint),
  )
  await look('browsers are not asked for one', async () =>
    promptAdvice(await send(target, [], agent), url),
  )
  return findings
}

/** Makes the endpoint go away again. */
export async function endExamination(target: Target): Promise<void> {
  await send(target, [], undefined, 'DELETE')
}

interface Metadata {
  readonly issuer?: string
  readonly mtls_endpoint_aliases?: { readonly token_endpoint?: string }
}

async function readMetadata(
  address: string,
  { patience = defaultPatience }: Target,
): Promise<Metadata | undefined> {
  try {
    const signal = AbortSignal.timeout(patience)
    return Object(await (await fetch(address, { signal })).json()) as Metadata
  } catch {
    // Someone else's page, perhaps.
    return undefined
  }
}

/** RFC 8414 section 3.1: between the host and the path. */
function rfc8414(url: string): string {
  const { origin } = new URL(url)
  return `${origin}/.well-known/oauth-authorization-server${url.slice(origin.length)}`
}

function metadataAdvice(
  url: string,
  known: Metadata | undefined,
  found: Metadata | undefined,
): string | undefined {
  if (known && found && found.issuer === known.issuer) return undefined
  return (
    `${rfc8414(url)} is not the metadata of this server. Let the proxy pass that address on as ` +
    'well, unchanged: OAuth clients look there.'
  )
}

function claim(name: string, base64: string, cert: string): string {
  if (name.startsWith('Sec-')) return 'AgBBQ'
  if (name.startsWith('Client-Cert')) return `:${base64}:`
  if (name === 'X-SSL-Client-DER') return base64
  return name === 'X-Forwarded-Client-Cert'
    ? `Cert="${encodeURIComponent(cert)}"`
    : encodeURIComponent(cert)
}

const announced = 'certificates are announced'

/** Metadata has no `mtls_endpoint_aliases`: client certificates are off, or half of them is. */
function unannounced({ format }: Observation): Finding {
  return format === null
    ? {
        check: announced,
        outcome: 'off',
        advice:
          'Clients cannot use certificates. To let them, set HOLDFAST_MTLS_PORT, or ' +
          'HOLDFAST_CLIENT_CERT_FORMAT and HOLDFAST_MTLS_ORIGIN behind a proxy.',
      }
    : finding(
        announced,
        'HOLDFAST_CLIENT_CERT_FORMAT is set, and metadata has no mtls_endpoint_aliases: set ' +
          'HOLDFAST_MTLS_ORIGIN.',
      )
}

function addressAdvice(url: string, { url: seen }: Observation): string | undefined {
  if (seen === url + doctorPath) return undefined
  return (
    `The server takes ${seen} for the address of ${url}${doctorPath}, and refuses DPoP proofs for ` +
    `any other. Set HOLDFAST_ISSUER=${url}.`
  )
}

/** Of TEST-NET-1 (RFC 5737): nobody has it. */
const forgedAddress = '192.0.2.1'

function clientAddressAdvice(seen: Observation, forged: Sent): string | undefined {
  if (!seen.fromProxy) {
    return seen.forwarded
      ? `${seen.address} sends X-Forwarded-For or Forwarded, and is not trusted: if it is your ` +
          'proxy, name it in HOLDFAST_TRUSTED_PROXIES, or all clients count as one.'
      : undefined
  }
  if (!seen.forwarded) {
    return (
      'The proxy sends no X-Forwarded-For, so that all clients count as one: let it set that ' +
      'header, as the configurations in docker/ do.'
    )
  }
  return typeof forged !== 'string' && forged.address === forgedAddress
    ? 'The proxy passes on the X-Forwarded-For that clients write, so that they choose the address ' +
        'that limits count by: let it replace that header or add to it.'
    : undefined
}

function proofAdvice(seen: Sent): string | undefined {
  if (typeof seen === 'string') return seen
  if (seen.dpop.count === 0) return 'The DPoP header is missing: let the proxy pass it on.'
  if (seen.dpop.count > 1) return 'The DPoP header is duplicated: let the proxy pass it on once.'
  return seen.dpop.error === null
    ? undefined
    : `The proof is not accepted (${seen.dpop.error}): the proxy changes the DPoP header or the ` +
        "method, HOLDFAST_ISSUER is another address, or this machine's clock is wrong."
}

function repeatedAdvice(seen: Sent): string | undefined {
  // A proxy that refuses such a request itself is as good.
  if (typeof seen === 'string' || seen.dpop.count === 2) return undefined
  return 'Of two DPoP headers one arrives, so that nobody notices the other: let the proxy pass on both.'
}

function spoofAdvice(seen: Sent): string | undefined {
  if (typeof seen === 'string') return undefined
  if (!seen.fromProxy) {
    return seen.certificate === null
      ? undefined
      : 'The server believes a certificate from a stranger. This is a defect: please report it.'
  }
  if (seen.certificate !== null) {
    return (
      `Anyone who sends ${seen.fields.join(', ')} can pass for any client. Let the proxy remove what ` +
      'clients send in it, as the configurations in docker/ do.'
    )
  }
  return seen.fields.length === 0
    ? undefined
    : `The proxy passes on what clients write in ${seen.fields.join(', ')}. Let it remove them, as ` +
        'the configurations in docker/ do.'
}

function certificateAdvice(seen: Sent, thumbprint: string, origin: string): string | undefined {
  if (typeof seen === 'string') return seen
  if (seen.certificate === thumbprint) return undefined
  if (!seen.fromProxy && seen.fields.length > 0) {
    return (
      'The certificate comes in a header from an address that is not trusted: name the proxy in ' +
      'HOLDFAST_TRUSTED_PROXIES.'
    )
  }
  if (seen.refused !== null) {
    return (
      `A header arrives, and is refused (${seen.refused}): HOLDFAST_CLIENT_CERT_FORMAT is ` +
      `${seen.format}, and the proxy writes another format.`
    )
  }
  if (seen.certificate !== null) return 'Another certificate arrives.'
  return seen.fields.length > 0
    ? `The proxy writes ${seen.fields.join(', ')}, and HOLDFAST_CLIENT_CERT_FORMAT is ` +
        `${seen.format}: make them agree.`
    : `No certificate arrives. Let the proxy ask for one at ${origin} and write it into the header ` +
        `of HOLDFAST_CLIENT_CERT_FORMAT (${seen.format ?? 'not set'}).`
}

function besideAdvice(seen: Sent, thumbprint: string): string | undefined {
  if (typeof seen === 'string' || seen.certificate === thumbprint) return undefined
  // Without a proxy a request with such a header is refused whole.
  if (!seen.fromProxy && seen.refused === 'untrusted_peer') return undefined
  return (
    "The client's own header arrives beside the proxy's or instead of it" +
    `${seen.refused ? ` (${seen.refused})` : ''}: let the proxy overwrite it, not add to it.`
  )
}

function promptAdvice(seen: Sent, url: string): string | undefined {
  if (typeof seen === 'string' || seen.certificate === null) return undefined
  return `Certificates are asked for at ${url} as well, and browsers will ask people for them.`
}
