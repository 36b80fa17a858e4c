import { readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose'
import { type KeyPair, makeProof } from '../doctor/proof.ts'
import { CommandError, command, printing, UsageError } from './command.ts'

interface ProofOptions {
  key: string
  newKey?: true
  nonce?: string
  token?: string
}

/** `holdfast proof`: a DPoP proof for one request, for curl and for scripts. */
export function proofCommand(): Command {
  return printing(
    command(
      'proof <method> <url>',
      'Make a DPoP proof (RFC 9449) for one request, from a key file. It asks no server.',
      'proof --key key.jwk --new-key POST https://id.example.com/token',
      'proof --key key.jwk --token "$TOKEN" GET https://api.example.com/orders',
    )
      .requiredOption('--key <file>', 'the private key: a JWK of P-256')
      .option('--new-key', 'make the key file, which must not exist')
      .option('--nonce <nonce>', 'the value of DPoP-Nonce in the last response')
      .option('--token <token>', 'the access token that the request carries'),
    async (method: string, url: string, { key: file, newKey, nonce, token }: ProofOptions) => {
      const request = { method: method.toUpperCase(), url: withoutQuery(url) }
      const jwk = newKey ? await makeKeyFile(file) : await readKeyFile(file)
      const proof = await makeProof(await importPair(file, jwk), {
        ...request,
        ...(nonce !== undefined && { nonce }),
        ...(token !== undefined && { accessToken: token }),
      })
      return { proof, jkt: await calculateJwkThumbprint(jwk) }
    },
    ({ proof }) => proof,
  )
}

/** RFC 9449 section 4.2: `htu` has neither query nor fragment. */
function withoutQuery(text: string): string {
  const url = URL.parse(text)
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new UsageError(`${text} is not an http or https URL.`)
  }
  return `${url.origin}${url.pathname}`
}

async function makeKeyFile(file: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(privateKey)
  try {
    await writeFile(file, `${JSON.stringify(jwk)}\n`, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CommandError(
      code === 'EEXIST'
        ? `${file} exists. Leave out --new-key to use it.`
        : `${file} cannot be written (${code}).`,
    )
  }
  return jwk
}

async function readKeyFile(file: string): Promise<JWK> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as JWK
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new CommandError(`${file} does not exist. --new-key makes it.`)
    throw code ? new CommandError(`${file} cannot be read (${code}).`) : notAKey(file)
  }
}

async function importPair(file: string, jwk: JWK): Promise<KeyPair> {
  try {
    const { d, ...publicJwk } = jwk
    if (d === undefined || jwk.crv !== 'P-256') throw notAKey(file)
    const [privateKey, publicKey] = await Promise.all(
      [jwk, publicJwk].map((each) => importJWK(each, 'ES256', { extractable: true })),
    )
    return { privateKey, publicKey } as KeyPair
  } catch {
    throw notAKey(file)
  }
}

/** The parser's own sentence would quote the file, which is a private key. */
const notAKey = (file: string) =>
  new CommandError(`${file} is not a private JWK of the curve P-256 (kty, crv, x, y, d).`)
