import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, gzip } from 'node:zlib'
import type { Middleware } from 'koa'

const prefix = '/assets/'

const files = {
  pico: `${import.meta.dirname}/assets/pico.css`,
  holdfast: `${import.meta.dirname}/assets/holdfast.css`,
  mark: `${import.meta.dirname}/assets/mark.svg`,
  password: `${import.meta.dirname}/assets/password.js`,
  pageKey: `${import.meta.dirname}/assets/page-key.js`,
  passkeys: `${import.meta.dirname}/assets/passkeys.js`,
  times: `${import.meta.dirname}/assets/times.js`,
}

export type AssetUrls = Readonly<Record<keyof typeof files, string>>

export interface Assets {
  urls: AssetUrls
  middleware: Middleware
}

/** Content codings (RFC 9110 section 8.4.1), the smallest result first. */
const encoders = { br: promisify(brotliCompress), gzip: promisify(gzip) }

type Encoding = keyof typeof encoders

const encodings = Object.keys(encoders) as Encoding[]

interface Asset {
  readonly type: string
  readonly body: Buffer
  /** Compresses once, when the first client asks for it. */
  readonly compressed: (encoding: Encoding) => Promise<Buffer>
}

/**
 * Reads the few files once; a file's address changes with its content, so it may be kept forever.
 *
 * @param base the public path of this server.
 */
export function loadAssets({ base = '' }: { base?: string } = {}): Assets {
  const assets = new Map<string, Asset>()
  const urls = Object.entries(files).map(([name, path]) => {
    const body = readFileSync(path)
    const digest = createHash('sha256').update(body).digest('base64url').slice(0, 16)
    const place = `${prefix}${name}.${digest}${extname(path)}`
    assets.set(place, { type: extname(path), body, compressed: compressOnce(body) })
    return [name, base + place]
  })
  return { urls: Object.fromEntries(urls), middleware: serve(assets) }
}

function compressOnce(body: Buffer): Asset['compressed'] {
  const results = new Map<Encoding, Promise<Buffer>>()
  return (encoding) => {
    const result = results.get(encoding) ?? encoders[encoding](body)
    results.set(encoding, result)
    return result
  }
}

function serve(assets: ReadonlyMap<string, Asset>): Middleware {
  return async (ctx, next) => {
    const asset = assets.get(ctx.path)
    if (!asset || (ctx.method !== 'GET' && ctx.method !== 'HEAD')) return next()
    ctx.set('cache-control', 'public, max-age=31536000, immutable')
    ctx.vary('Accept-Encoding')
    ctx.type = asset.type
    const encoding = encodings.find((each) => ctx.acceptsEncodings(each) === each)
    if (encoding) ctx.set('content-encoding', encoding)
    ctx.body = encoding ? await asset.compressed(encoding) : asset.body
  }
}
