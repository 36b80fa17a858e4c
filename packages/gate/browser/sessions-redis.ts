/** Sessions in Redis or Valkey, for several processes. */
import type { Ended, Session, SessionKey, SessionStore } from './sessions.ts'
import { concerns } from './sessions.ts'

/** Of one slot, so that a cluster can run the scripts. */
const prefix = 'holdfast:{gate}:'

/** Keeps a session, puts it into its indexes, and ends the oldest beyond the bound of its person. */
const insertScript = `
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if redis.call('EXISTS', ARGV[8] .. 'session:' .. id) == 0 then redis.call('ZREM', KEYS[2], id) end
end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
if KEYS[3] then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])
  redis.call('ZADD', KEYS[3], ARGV[4], ARGV[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if over > 0 then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, over - 1)
  for _, id in ipairs(oldest) do
    redis.call('DEL', ARGV[8] .. 'session:' .. id, ARGV[8] .. 'key:' .. id)
    redis.call('ZREM', KEYS[2], id)
  end
end
return 1`

const findScript = `
local session = redis.call('GET', KEYS[1])
if not session then return false end
return { session, redis.call('GET', KEYS[2]), redis.call('PTTL', KEYS[1]) }`

const bindScript = `
if redis.call('PTTL', KEYS[1]) <= 0 then return 0 end
local key = redis.call('GET', KEYS[2])
if key then
  local isUpgrade = cjson.decode(key).method == 'page-key' and cjson.decode(ARGV[1]).method == 'dbsc'
  if not isUpgrade then return 0 end
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1`

const replaceScript = `
local session = redis.call('GET', KEYS[1])
if not session or cjson.decode(session).version ~= tonumber(ARGV[2]) - 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
if KEYS[2] then
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
return 1`

/**
 * Keeps sessions in Redis: the session until its idle life ends, its key beside it, and an index for
 * each person and each session of the provider.
 *
 * @param send sends one command and gives its reply.
 */
export function createRedisSessionStore(
  send: (args: string[]) => Promise<unknown>,
  now: () => number = Date.now,
): SessionStore {
  const sessionKey = (id: string) => `${prefix}session:${id}`
  const keyKey = (id: string) => `${prefix}key:${id}`
  const index = (kind: 'person' | 'sid', { application, issuer }: Ended, name: string) =>
    `${prefix}${kind}:${JSON.stringify([application, issuer, name])}`
  const run = (script: string, keys: string[], ...args: (string | number)[]) =>
    send(['EVAL', script, String(keys.length), ...keys, ...args.map(String)])
  const leftMs = ({ endsAtMs, idleEndsAtMs }: Session) =>
    Math.max(1, Math.ceil(Math.min(endsAtMs, idleEndsAtMs) - now()))
  const sidIndex = (session: Session) =>
    session.sid === undefined ? [] : [index('sid', session, session.sid)]

  async function find(id: string, nowMs: number): Promise<Session | undefined> {
    const reply = await run(findScript, [sessionKey(id), keyKey(id)])
    if (!Array.isArray(reply)) return undefined
    const [session, key, left] = reply as [string, string | null, number]
    return {
      ...(JSON.parse(session) as Session),
      // The life of the entry is what `touch` moves.
      idleEndsAtMs: nowMs + Number(left),
      ...(typeof key === 'string' && { key: JSON.parse(key) as SessionKey }),
    }
  }

  return Object.freeze({
    shared: true,

    async insert(session: Session, most: number, nowMs: number) {
      const { id, subject, endsAtMs } = session
      const keys = [sessionKey(id), index('person', session, subject), ...sidIndex(session)]
      const longest = Math.max(1, Math.ceil(endsAtMs - nowMs))
      const args = [JSON.stringify(session), leftMs(session), id, endsAtMs, nowMs, most, longest]
      await run(insertScript, keys, ...args, prefix)
    },

    find,

    async touch(id: string, idleEndsAtMs: number, nowMs: number) {
      await send(['PEXPIRE', sessionKey(id), String(Math.max(1, Math.ceil(idleEndsAtMs - nowMs)))])
    },

    async bind(id: string, key: SessionKey) {
      const session = await find(id, now())
      if (session === undefined) return false
      const longest = Math.max(1, Math.ceil(session.endsAtMs - now()))
      const keys = [sessionKey(id), keyKey(id)]
      return Number(await run(bindScript, keys, JSON.stringify(key), longest)) === 1
    },

    async replace({ key: _, ...session }: Session) {
      const { id, version, endsAtMs } = session
      const keys = [sessionKey(id), ...sidIndex(session)]
      const longest = Math.max(1, Math.ceil(endsAtMs - now()))
      const args = [JSON.stringify(session), version, leftMs(session), id, endsAtMs, longest]
      return Number(await run(replaceScript, keys, ...args)) === 1
    },

    async end(id: string) {
      await send(['DEL', sessionKey(id), keyKey(id)])
    },

    async endAll(ended: Ended) {
      const { sid, subject } = ended
      const name = sid ?? subject
      if (name === undefined) return []
      const kind = sid === undefined ? 'person' : 'sid'
      const ids = (await send(['ZRANGE', index(kind, ended, name), '0', '-1'])) as string[]
      const found = await Promise.all(ids.map((id) => find(id, now())))
      const gone = found.flatMap((each) => (each && concerns(ended, each) ? [each.id] : []))
      if (gone.length > 0) {
        await send(['DEL', ...gone.flatMap((id) => [sessionKey(id), keyKey(id)])])
      }
      return gone
    },

    async lock(id: string, nowMs: number, untilMs: number) {
      const ms = String(Math.max(1, Math.ceil(untilMs - nowMs)))
      return (await send(['SET', `${prefix}lock:${id}`, '1', 'NX', 'PX', ms])) !== null
    },

    async unlock(id: string) {
      await send(['DEL', `${prefix}lock:${id}`])
    },

    /** Redis itself removes what has ended. */
    async sweep() {},
  })
}
