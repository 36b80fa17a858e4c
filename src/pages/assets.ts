import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname } from 'node:path'
import type { Middleware } from 'koa'

const PREFIX = '/assets/'

const FILES = {
  pico: createRequire(import.meta.url).resolve('@picocss/pico/css/pico.classless.min.css'),
  holdfast: `${import.meta.dirname}/assets/holdfast.css`,
  mark: `${import.meta.dirname}/assets/mark.svg`,
}

export type AssetUrls = Readonly<Record<keyof typeof FILES, string>>

export interface Assets {
  urls: AssetUrls
  middleware: Middleware
}

/**
 * Reads the few files once; a file's address changes with its content, so it may be kept forever.
 *
 * @param base the public path of this server.
 */
export function loadAssets({ base = '' }: { base?: string } = {}): Assets {
  const bodies = new Map<string, { type: string; body: Buffer }>()
  const urls = Object.entries(FILES).map(([name, path]) => {
    const body = readFileSync(path)
    const digest = createHash('sha256').update(body).digest('base64url').slice(0, 16)
    const place = `${PREFIX}${name}.${digest}${extname(path)}`
    bodies.set(place, { type: extname(path), body })
    return [name, base + place]
  })
  return { urls: Object.fromEntries(urls), middleware: serve(bodies) }
}

function serve(bodies: ReadonlyMap<string, { type: string; body: Buffer }>): Middleware {
  return (ctx, next) => {
    const file = bodies.get(ctx.path)
    if (!file || (ctx.method !== 'GET' && ctx.method !== 'HEAD')) return next()
    ctx.set('cache-control', 'public, max-age=31536000, immutable')
    ctx.type = file.type
    ctx.body = file.body
    return undefined
  }
}
