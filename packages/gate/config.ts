/** The configuration: one file of YAML or JSON, read whole, with every problem and its place. */
import { isIP } from 'node:net'
import { certificateHeaderFormats } from '@holdfast/verify'
import { type Document, isMap, isNode, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { proxies } from './forward-auth.ts'
import { canPass } from './headers.ts'
import { findPathProblem, readTarget } from './target.ts'

/** A configuration that cannot be used: `problems` are sentences, each with its place. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = Object.freeze([...problems])
  }
}

const loopback = /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/

/** An https origin, or an http one of this machine. */
const publicOrigin = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isSecure = url?.protocol === 'https:' || loopback.test(url?.hostname ?? '')
  if (url === undefined || url.origin !== text || !isSecure) {
    context.addIssue(`must be an https origin such as https://app.example.com (got ${text})`)
  }
})

const upstreamUrl = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`) {
    context.addIssue(`must be an http or https URL without a path (got ${text})`)
  }
})

const networks = z.array(
  z.string().superRefine((text, context) => {
    const [address = '', bits, ...rest] = text.split('/')
    const most = isIP(address) === 4 ? 32 : 128
    const isPrefix = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most)
    if (isIP(address) === 0 || !isPrefix || rest.length > 0) {
      context.addIssue(`must be an IP address or a network such as 10.0.0.0/8 (got ${text})`)
    }
  }),
)

const port = z.int().min(0).max(65_535)
const whole = (least: number, most: number) => z.int().min(least).max(most)
const text = z.string().min(1)
const rule = z.enum(['refuse', 'pass']).default('refuse')

const keyPair = z.strictObject({ certFile: text, keyFile: text })

const token = z.string().regex(/^[!#-[\]-~]+$/, 'must be visible ASCII without spaces or quotes')

const route = z
  .strictObject({
    /** A path and everything below it. */
    path: z.string().superRefine((path, context) => {
      const target = readTarget(path)
      const rules = { encodedSlash: 'refuse', doubleSlash: 'refuse', semicolon: 'refuse' } as const
      const isPlain = target?.path === path && !path.includes('%')
      if (!isPlain || findPathProblem(path, rules)) {
        context.addIssue(`must be a plain path such as /admin (got ${path})`)
      }
    }),
    methods: z
      .array(z.string().regex(/^[A-Z]{1,16}$/))
      .min(1)
      .optional(),
    access: z.enum(['bound', 'public']).default('bound'),
    scopes: z.array(token).optional(),
    acrValues: z.array(token).optional(),
    maxAgeS: whole(0, 31_536_000).optional(),
    /** The claim `groups` must have one of them. */
    groups: z.array(text).min(1).optional(),
    /**
     * Sessions of browsers must be bound to a key of the browser (DBSC), or, by `page-key`, to one of
     * a page as well. Tokens always are bound.
     */
    bound: z
      .union([z.boolean(), z.literal('page-key')], 'must be true, false or page-key')
      .default(false),
    /** `restart`: what clients say of a trace counts for nothing, and cannot have it recorded. */
    trace: z.enum(['continue', 'restart']).default('continue'),
  })
  .superRefine((given, context) => {
    const { scopes, acrValues, maxAgeS, groups, bound } = given
    const asks = (scopes ?? acrValues ?? maxAgeS ?? groups) !== undefined || bound !== false
    if (given.access === 'public' && asks) {
      context.addIssue('a public route cannot ask for scopes, acrValues, maxAgeS, groups or bound')
    }
  })

const headerName = z.string().superRefine((name, context) => {
  if (!canPass(name)) {
    context.addIssue(`must be a field in lower case that only clients write (got ${name})`)
  }
})

/** How browsers sign in. Left out: they do not, and the application is for access tokens alone. */
const openid = z.strictObject({
  /** Default: `issuer.url`. */
  issuer: publicOriginOrPath().optional(),
  clientId: text,
  /** For private_key_jwt (ES256). Left out: a public client. */
  clientKeyFile: text.optional(),
  scopes: z.array(token).default(['openid']),
  /** For which API the access token is (RFC 8707). */
  resource: z.url().optional(),
  /** A session ends so long after its sign-in, and so long after its last request. */
  absoluteS: whole(60, 2_592_000).default(43_200),
  idleS: whole(60, 2_592_000).default(3600),
  /** Sessions of one person; beyond that, the oldest end. */
  perPerson: whole(1, 1000).default(10),
  /** For how long a proof of the browser's key is good. */
  proofS: whole(5, 3600).default(600),
  /**
   * Bind the sessions of browsers without DBSC to a key of a page. Off by default: pages of the
   * application that send requests by script then have to include the gate's script.
   */
  pageKey: z.boolean().default(false),
  /** Origins besides the application's own whose pages may send what is not GET. */
  trustedOrigins: z.array(publicOrigin).default([]),
})

const application = z
  .strictObject({
    /** The origin that clients call; its host is allowed, and no other. */
    origin: publicOrigin,
    upstream: z.strictObject({
      url: upstreamUrl,
      /** Authorities of the upstream's certificate. Default: those of Node. */
      caFile: text.optional(),
      /** The gate's client certificate. */
      certFile: text.optional(),
      keyFile: text.optional(),
    }),
    mode: z.enum(['sign', 'pass', 'plain']).default('sign'),
    /** What tokens must name in `aud`. Default: the origin. */
    audience: text.optional(),
    methods: z
      .array(z.enum(['dpop', 'mtls', 'token-binding']))
      .min(1)
      .optional(),
    /** Claims of the token that the application receives. */
    claims: z.array(text).optional(),
    requestHeaders: z.array(headerName).default([]),
    openid: openid.optional(),
    /** Send the access token of the browser's session, with a proof by the gate's key of the session. */
    upstreamToken: z.boolean().default(false),
    paths: z.strictObject({ encodedSlash: rule, doubleSlash: rule, semicolon: rule }).prefault({}),
    bodies: z
      .strictObject({
        /** Bodies of up to so many bytes are read first, and signed. */
        signedBytes: whole(0, 8_388_608).default(65_536),
        /** Larger ones: refused, or passed on without their digest. */
        larger: z.enum(['refuse', 'pass']).default('refuse'),
      })
      .prefault({}),
    timeouts: z
      .strictObject({
        connectMs: whole(1, 600_000).default(5000),
        /** From the end of the request to the first byte of the answer. */
        responseMs: whole(1, 3_600_000).default(30_000),
        /** While nothing moves. */
        idleMs: whole(1, 86_400_000).default(300_000),
      })
      .prefault({}),
    routes: z.array(route).default([]),
  })
  .superRefine((given, context) => {
    const { mode, upstream, routes, openid: signIn, upstreamToken, origin } = given
    const issue = (message: string, ...path: (string | number)[]) =>
      context.addIssue({ code: 'custom', message, path })
    const { protocol, hostname } = URL.canParse(upstream.url) ? new URL(upstream.url) : {}
    if ((upstream.certFile === undefined) !== (upstream.keyFile === undefined)) {
      issue('needs both certFile and keyFile', 'upstream')
    }
    const isMutual = protocol === 'https:' && upstream.certFile !== undefined
    if (mode === 'plain' && !isMutual && !loopback.test(hostname ?? '')) {
      issue('plain identity headers need an upstream on loopback, or certFile and keyFile', 'mode')
    }
    if (upstreamToken && signIn === undefined) issue('needs openid', 'upstreamToken')
    if (upstreamToken && mode !== 'pass') issue('needs mode: pass', 'upstreamToken')
    if (signIn !== undefined && mode === 'pass' && !upstreamToken) {
      issue('needs upstreamToken: without it the application learns nothing of browsers', 'mode')
    }
    if (signIn && !signIn.scopes.includes('openid')) issue('must name openid', 'openid', 'scopes')
    if (signIn?.pageKey && origin.startsWith('http:')) {
      issue('needs an origin with https', 'openid', 'pageKey')
    }
    for (const [index, { bound }] of routes.entries()) {
      if (bound && signIn === undefined) issue('needs openid', 'routes', index, 'bound')
      if (bound === 'page-key' && !signIn?.pageKey) {
        issue('needs openid.pageKey', 'routes', index, 'bound')
      }
      // Browsers bind sessions over https only.
      if (bound && origin.startsWith('http:')) {
        issue('needs an origin with https', 'routes', index, 'bound')
      }
    }
    for (const [index, { path, methods }] of routes.entries()) {
      const same = (each: (typeof routes)[number]) =>
        each.path.toLowerCase() === path.toLowerCase() && `${each.methods}` === `${methods}`
      if (routes.findIndex(same) !== index) issue('is there twice', 'routes', index, 'path')
    }
  })

const schema = z
  .strictObject({
    listen: z
      .strictObject({ host: text.default('127.0.0.1'), port: port.default(8443) })
      .prefault({}),
    /** Left out: plain HTTP, on loopback or behind a proxy that terminates TLS. */
    tls: keyPair
      .extend({
        /** Ask clients for certificates, of any authority. */
        clientCertificates: z.boolean().default(false),
        /** Offer HTTP/2 (ALPN h2) beside HTTP/1.1. */
        http2: z.boolean().default(true),
        tokenBinding: z.enum(['off', 'tls', 'tls13-draft']).default('off'),
      })
      .optional(),
    /** Proxies in front of the gate: what they write in headers is believed. */
    trustedProxies: networks.default([]),
    forwarded: z
      .strictObject({
        certificate: z.enum(certificateHeaderFormats as [string, ...string[]]).optional(),
        /** Where a proxy uses another field than is usual for `certificate`. */
        certificateHeader: z
          .string()
          .regex(/^[a-z\d-]+$/, 'must be the name of a field in lower case')
          .optional(),
        tokenBinding: z.boolean().default(false),
      })
      .prefault({}),
    /** Where proxies ask, by plain HTTP; those in `trustedProxies` only. */
    forwardAuth: z
      .strictObject({ proxy: z.enum(proxies), host: text.default('127.0.0.1'), port })
      .optional(),
    /** Where /livez, /readyz, /metrics and the public keys are. */
    operations: z.strictObject({ host: text.default('127.0.0.1'), port }).optional(),
    replicas: whole(1, 1000).default(1),
    /** Where used proofs are remembered. Left out: in the memory of the process. */
    replay: z
      .strictObject({
        redis: storeUrl('redis', 'rediss'),
        postgres: storeUrl('postgresql', 'postgres'),
      })
      .optional(),
    issuer: z.strictObject({
      url: publicOriginOrPath(),
      jwksUri: text.optional(),
    }),
    /** For `openid`: what cookies and sessions are sealed with. */
    browsers: z
      .strictObject({
        /** At least 32 random bytes each; the first one seals, and all open. */
        secretFiles: z.array(text).min(1),
        /** How late a process notices what another one has done with a session. */
        staleS: whole(1, 60).default(5),
      })
      .optional(),
    signing: z
      .strictObject({
        /** Private keys, PEM: the first one signs, and the public parts of all are published. */
        keyFiles: z.array(text).min(1),
        lifetimeS: whole(1, 30).default(10),
      })
      .optional(),
    limits: z
      .strictObject({
        headerBytes: whole(1024, 65_536).default(16_384),
        headersMs: whole(100, 120_000).default(20_000),
        /** For a whole request: an upload takes as long. */
        requestMs: whole(1000, 86_400_000).default(300_000),
        connections: whole(1, 100_000).default(10_000),
        requests: whole(1, 100_000).default(1000),
        /** Requests at one time on one connection of HTTP/2. */
        streams: whole(1, 1000).default(100),
        /** Of all bodies that are read before they are signed. */
        bufferedBytes: whole(65_536, 1_073_741_824).default(67_108_864),
        replayEntries: whole(1000, 100_000_000).default(250_000),
        /** After SIGTERM the gate serves on for so long, while /readyz says 503. */
        announceMs: whole(0, 600_000).default(0),
        /** Then requests that have begun, and kept connections of proxies, have so long to end. */
        drainMs: whole(0, 3_600_000).default(20_000),
        /** A connection of `trustedProxies` without a request: longer than the proxy keeps it. */
        keptMs: whole(1000, 7_200_000).default(75_000),
        /** Sessions in the memory of the process. */
        sessions: whole(100, 10_000_000).default(100_000),
        /** Sign-ins that begin at one time, and those that end; of one network, half as many. */
        signIns: whole(1, 10_000).default(64),
      })
      .prefault({}),
    applications: z.array(application).min(1),
  })
  .superRefine((given, context) => {
    const issue = (message: string, ...path: (string | number)[]) =>
      context.addIssue({ code: 'custom', message, path })
    const { applications, tls, listen, trustedProxies, signing, forwarded } = given
    for (const [index, { origin, mode, openid: openidOf }] of applications.entries()) {
      if (applications.findIndex((each) => each.origin === origin) !== index) {
        issue(`is there twice (${origin})`, 'applications', index, 'origin')
      }
      if (openidOf !== undefined && given.browsers === undefined) {
        issue('needs browsers.secretFiles', 'applications', index, 'openid')
      }
      if (mode === 'sign' && signing === undefined) {
        issue('needs signing.keyFiles', 'applications', index, 'mode')
      }
    }
    if (tls === undefined && trustedProxies.length === 0 && !loopback.test(listen.host)) {
      issue('needs tls, or trustedProxies where a proxy terminates TLS', 'listen', 'host')
    }
    if (given.replicas > 1 && given.replay === undefined) {
      issue('needs replay, in which all replicas see which proofs were used', 'replicas')
    }
    if (
      given.replay &&
      (given.replay.redis === undefined) === (given.replay.postgres === undefined)
    ) {
      issue('must name either redis or postgres', 'replay')
    }
    const { certificate: format = 'rfc9440', certificateHeader: header } = forwarded
    if (header !== undefined && !['nginx', 'haproxy', 'aws-alb'].includes(format)) {
      const formats = 'certificate nginx, haproxy or aws-alb'
      issue(`is for ${formats}`, 'forwarded', 'certificateHeader')
    }
    const isForwarded = forwarded.certificate !== undefined || forwarded.tokenBinding
    if (isForwarded && trustedProxies.length === 0) issue('needs trustedProxies', 'forwarded')
    if (given.forwardAuth && trustedProxies.length === 0) {
      issue('needs trustedProxies', 'forwardAuth')
    }
  })

function storeUrl(...schemes: readonly string[]) {
  const starts = schemes.map((scheme) => `${scheme}://`)
  // Not what was given: there is a password in it.
  return z
    .string()
    .refine((value) => URL.canParse(value) && starts.some((start) => value.startsWith(start)), {
      error: `must be a URL that begins with ${starts.join(' or ')}`,
    })
    .optional()
}

function publicOriginOrPath() {
  return z.string().superRefine((value, context) => {
    const url = URL.canParse(value) ? new URL(value) : undefined
    const isSecure = url?.protocol === 'https:' || loopback.test(url?.hostname ?? '')
    if (url === undefined || !isSecure || url.search !== '' || url.hash !== '') {
      context.addIssue(`must be an https URL (got ${value})`)
    }
  })
}

/** A configuration with all defaults filled in. */
export type Config = Readonly<z.output<typeof schema>>
/** One application behind the gate. */
export type ApplicationConfig = Config['applications'][number]
/** A rule for a path of an application. */
export type RouteConfig = ApplicationConfig['routes'][number]

/**
 * Reads a configuration. It does NOT open the files that the configuration names.
 *
 * @throws {@link ConfigError} with all problems.
 */
export function parseConfig(source: string, file = 'gate.yaml'): Config {
  const lines = new LineCounter()
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${line}:${col}`
  }
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map(({ pos, message }) => `${at(pos[0])}: ${message}`))
  }
  const { data, error } = schema.safeParse(document.toJS())
  if (data !== undefined) return data
  const problems = error.issues.map((issue) => {
    const path = issue.path.filter((each) => typeof each !== 'symbol')
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : []
    const place = at(offsetOf(document, [...path, ...keys.slice(0, 1)]))
    return `${place}: ${nameOf([...path, ...(keys.length === 1 ? keys : [])])} ${sentence(issue)}`
  })
  throw new ConfigError(problems)
}

/** Where a value is in the text; where it is missing, the place of what it is missing from. */
function offsetOf(document: Document, path: readonly (string | number)[]): number {
  for (let length = path.length; length > 0; length -= 1) {
    const parent = document.getIn(path.slice(0, length - 1), true)
    const key = path[length - 1]
    const pair = isMap(parent) ? parent.items.find((each) => `${each.key}` === `${key}`) : undefined
    if (isNode(pair?.key) && pair.key.range) return pair.key.range[0]
    const node = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return 0
}

function nameOf(path: readonly (string | number)[]): string {
  const name = path.reduce<string>(
    (all, each) => (typeof each === 'number' ? `${all}[${each}]` : all ? `${all}.${each}` : each),
    '',
  )
  return name === '' ? 'the configuration' : name
}

function sentence(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.length === 1
      ? 'is not known'
      : `has unknown settings: ${issue.keys.join(', ')}`
  }
  if (issue.message.endsWith('received undefined')) return 'is missing'
  return issue.message.replace(
    /^(?:Invalid input|Too \w+): (.)/,
    (_, first) => `is wrong: ${first}`,
  )
}
