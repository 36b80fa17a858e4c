/** Reads the configuration and every file that it names, and says all that is wrong with them. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { createSecureContext } from 'node:tls'
import { calculateJwkThumbprint } from 'jose'
import type { UpstreamFiles } from './application.ts'
import { type Config, ConfigError, parseConfig } from './config.ts'
import type { GateKey } from './identity.ts'

/** A configuration that can be used, with the contents of its files. */
export type Loaded = Readonly<{
  config: Config
  keys: readonly GateKey[]
  files: readonly UpstreamFiles[]
  /** The keys of `openid.clientKeyFile`, in order. */
  clientKeys: readonly (KeyObject | undefined)[]
  /** What `browsers.secretFiles` contain. */
  secrets: readonly Uint8Array[]
  /** Certificate and key of the listener. */
  pair: Readonly<{ cert: string; key: string }> | undefined
  /** All files that were read: a change of one of them is a change of the configuration. */
  paths: readonly string[]
}>

/** Reads a configuration whole. @throws {@link ConfigError} with all problems. */
export async function loadConfig(file: string): Promise<Loaded> {
  const source = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError([`${file} cannot be read (${error.code}).`])
  })
  const config = parseConfig(source, file)
  const problems: string[] = []
  const paths = [file]

  /** Files are relative to the one that names them. */
  async function read(setting: string, name: string | undefined): Promise<string | undefined> {
    if (name === undefined) return undefined
    const absolute = path.resolve(path.dirname(file), name)
    paths.push(absolute)
    try {
      return await readFile(absolute, 'utf8')
    } catch (error) {
      problems.push(
        `${file}: ${setting} cannot be read (${(error as { code: string }).code}): ${name}`,
      )
      return undefined
    }
  }

  async function attempt<T>(setting: string, make: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await make()
    } catch (error) {
      problems.push(`${file}: ${setting} cannot be used: ${(error as Error).message}`)
      return undefined
    }
  }

  const { tls, signing, applications, browsers } = config
  const keys: GateKey[] = []
  for (const [at, name] of (signing?.keyFiles ?? []).entries()) {
    const setting = `signing.keyFiles[${at}]`
    const pem = await read(setting, name)
    const key = pem === undefined ? undefined : await attempt(setting, () => readKey(pem))
    if (key !== undefined) keys.push(key)
  }
  const secrets: Uint8Array[] = []
  for (const [at, name] of (browsers?.secretFiles ?? []).entries()) {
    const setting = `browsers.secretFiles[${at}]`
    const content = await read(setting, name)
    const secret = content && (await attempt(setting, () => readSecret(content)))
    if (secret) secrets.push(secret)
  }
  const clientKeys: (KeyObject | undefined)[] = []
  for (const [at, { openid }] of applications.entries()) {
    const setting = `applications[${at}].openid.clientKeyFile`
    const pem = await read(setting, openid?.clientKeyFile)
    const key = pem === undefined ? undefined : await attempt(setting, () => readClientKey(pem))
    clientKeys.push(key)
  }
  const files: UpstreamFiles[] = []
  for (const [at, { upstream }] of applications.entries()) {
    const setting = `applications[${at}].upstream`
    const found = {
      ca: await read(`${setting}.caFile`, upstream.caFile),
      cert: await read(`${setting}.certFile`, upstream.certFile),
      key: await read(`${setting}.keyFile`, upstream.keyFile),
    }
    const given = Object.fromEntries(Object.entries(found).filter(([, pem]) => pem !== undefined))
    await attempt(setting, () => createSecureContext(given))
    files.push(given)
  }
  const [cert, key] = [
    await read('tls.certFile', tls?.certFile),
    await read('tls.keyFile', tls?.keyFile),
  ]
  const pair = cert !== undefined && key !== undefined ? { cert, key } : undefined
  if (pair) await attempt('tls', () => createSecureContext(pair))
  if (config.forwardAuth?.proxy === 'envoy-grpc') {
    // Nobody else needs these packages.
    await attempt('forwardAuth.proxy', () => import('./envoy/grpc.ts'))
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return { config, keys, files, clientKeys, secrets, pair, paths }
}

/** Reads a secret of at least 32 bytes, base64url. */
function readSecret(content: string): Uint8Array {
  const secret = Buffer.from(content.trim(), 'base64url')
  if (secret.length < 32) throw new TypeError('it must have at least 32 bytes, base64url')
  return secret
}

/** Reads the key of a client. @throws where it is not on P-256. */
function readClientKey(pem: string): KeyObject {
  const key = createPrivateKey(pem)
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new TypeError('it must be an EC key on P-256')
  }
  return key
}

/** Reads a private key, PEM. @throws where it is neither P-256 nor Ed25519. */
export async function readKey(pem: string): Promise<GateKey> {
  const key = createPrivateKey(pem)
  const isP256 = key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
  if (!isP256 && key.asymmetricKeyType !== 'ed25519') {
    throw new TypeError('it must be an EC key on P-256 or an Ed25519 key')
  }
  const jwk = createPublicKey(key).export({ format: 'jwk' })
  const keyId = await calculateJwkThumbprint(jwk)
  const alg = isP256 ? 'ES256' : 'EdDSA'
  return { key, keyId, publicJwk: Object.freeze({ ...jwk, kid: keyId, alg, use: 'sig' }) }
}
