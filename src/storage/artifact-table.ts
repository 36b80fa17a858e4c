import { hash } from 'node:crypto'
import { createBatch } from './batch.ts'
import { endsWith } from './client-document-table.ts'
import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'
import { type ReplayEntry, recordEntries } from './replay-table.ts'
import { isStorable } from './text.ts'

export interface ArtifactKey {
  readonly kind: string
  /** SHA-256 of the identifier, 32 bytes. */
  readonly id: Buffer
}

/** The key of an artifact from the identifier that the engine and its clients know it by. */
export function artifactKey(kind: string, identifier: string): ArtifactKey {
  return { kind, id: hash('sha256', identifier, 'buffer') }
}

export interface Artifact extends ArtifactKey {
  readonly grantId: string | undefined
  readonly uid: string | undefined
  readonly accountId?: string | undefined
  /** The uid of the session that the artifact comes from. */
  readonly sessionUid?: string | undefined
  /** The chain of one authorization that the artifact belongs to, and ends with. */
  readonly familyId?: string | undefined
  /** The registered client that the artifact ends with. */
  readonly clientId?: string | undefined
  readonly payload: Record<string, unknown>
  /** Unix time in seconds. */
  readonly expiresAt: number
}

/** In the place of an end: seconds from now on, by the clock of the database. */
interface Lifetime {
  readonly lifetimeS: number
}

/**
 * The condition that the client of a row of `artifacts` is still there, and its chain has not ended:
 * what a request writes while another one removes the client, or ends the chain, counts for nothing.
 * The ended chain is a scalar: of a "not exists" PostgreSQL would read all chains that ever ended.
 */
export function isLive(row: string): string {
  return `(${row}.client_id is null or exists (
             select from clients where clients.id = ${row}.client_id
                and clients.incarnation = ${row}.client_incarnation))
      and (${row}.family_id is null or (
             select true from artifacts ended where ended.kind = 'EndedFamily'
                and ended.id = sha256(convert_to(${row}.family_id, 'UTF8'))) is null)`
}

export interface StoredArtifact {
  readonly payload: Record<string, unknown>
  /** Unix time in seconds, or null. */
  readonly consumedAt: number | null
}

/** What becomes true together, or not at all. */
export interface UnitOfWork {
  readonly replayEntries?: readonly ReplayEntry[]
  readonly consumed: ArtifactKey | undefined
  readonly written: readonly Artifact[]
}

/**
 * Whether a unit of work was committed; if not, what another had done before: which of its replay
 * entries, by its place, or the consumption.
 */
export type CommitOutcome = 'committed' | { readonly replayed: number } | 'already consumed'

/** That a person has let a client in. */
export interface StoredGrant {
  readonly clientId: string
  readonly grantedAt: Date
  readonly granted: readonly GrantedParts[]
}

/** What one grant holds, as the engine keeps it. */
export interface GrantedParts {
  readonly openid?: { readonly scope?: string; readonly claims?: readonly string[] } | null
  /** Scopes by resource server. */
  readonly resources?: Readonly<Record<string, string>> | null
}

/** A copy of a client that holds tokens of a person: what tells it from others is its key. */
export interface Installation {
  readonly clientId: string
  /** RFC 7638 thumbprint of the key. */
  readonly jkt: string
  readonly since: Date
  readonly lastUsed: Date
}

/** Installations of one person that are listed. */
const listedInstallations = 200

/** Tokens of a person that can be used, with their grant; of a grant of an earlier release none. */
const tokensOfPerson = `artifacts "grant"
                 join artifacts token on token.grant_id = "grant".uid
                where "grant".kind = 'Grant' and "grant".payload->>'accountId' = $1
                  and "grant".expires_at > now()
                  and token.kind in ('AccessToken', 'RefreshToken')
                  and token.consumed_at is null and token.expires_at > now()`

export type ArtifactTable = ReturnType<typeof createArtifactTable>

/** The table `artifacts`: every statement that touches it stands here. */
export function createArtifactTable(database: Database) {
  const commit = createBatch((units: readonly UnitOfWork[]) => commitUnits(database, units))
  return {
    async find({ kind, id }: ArtifactKey): Promise<StoredArtifact | undefined> {
      const { rows } = await database.query<StoredArtifact>({
        name: 'artifact-find',
        text: `select payload, extract(epoch from consumed_at)::float8 as "consumedAt"
                 from artifacts
                where kind = $1 and id = $2 and expires_at > now() and ${isLive('artifacts')}`,
        values: [kind, id],
      })
      return rows[0]
    },

    async findByUid(kind: string, uid: string): Promise<StoredArtifact | undefined> {
      if (!isStorable(uid)) return undefined
      const { rows } = await database.query<StoredArtifact>({
        name: 'artifact-find-by-uid',
        text: `select payload, extract(epoch from consumed_at)::float8 as "consumedAt"
                 from artifacts
                where kind = $1 and uid = $2 and expires_at > now() and ${isLive('artifacts')}
                order by expires_at desc limit 1`,
        values: [kind, uid],
      })
      return rows[0]
    },

    /**
     * Writes one artifact. Whatever was consumed stays consumed: `consumed_at` is not among the
     * columns that a second write changes.
     */
    async write(artifact: Artifact | (Omit<Artifact, 'expiresAt'> & Lifetime)): Promise<void> {
      await database.query({
        name: 'artifact-write',
        text: `insert into artifacts
                      (kind, id, grant_id, uid, account_id, session_uid, payload, expires_at,
                       family_id, client_id, client_incarnation)
               values ($1, $2, $3, $4, $5, $6, $7,
                       coalesce(to_timestamp($8), now() + make_interval(secs => $11)), $9, $10,
                       (select incarnation from clients where id = $10))
               on conflict on constraint artifacts_pkey do update
                  set grant_id = excluded.grant_id, uid = excluded.uid,
                      account_id = excluded.account_id, session_uid = excluded.session_uid,
                      payload = excluded.payload, expires_at = excluded.expires_at,
                      family_id = excluded.family_id, client_id = excluded.client_id,
                      client_incarnation = excluded.client_incarnation`,
        values: [
          artifact.kind,
          artifact.id,
          artifact.grantId,
          artifact.uid,
          artifact.accountId,
          artifact.sessionUid,
          JSON.stringify(artifact.payload),
          'expiresAt' in artifact ? artifact.expiresAt : null,
          artifact.familyId,
          endsWith(artifact.clientId),
          'lifetimeS' in artifact ? artifact.lifetimeS : null,
        ],
      })
    },

    /** Writes an artifact, unless one of its kind and uid is alive: then false. */
    async add(artifact: Artifact): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'artifact-add',
        text: `insert into artifacts (kind, id, uid, payload, expires_at,
                                      client_id, client_incarnation)
               select $1::text, $2::bytea, $3::text, $4::json, to_timestamp($5), $6::text,
                      (select incarnation from clients where id = $6)
                where not exists (select from artifacts
                                   where kind = $1 and uid = $3 and expires_at > now())`,
        values: [
          artifact.kind,
          artifact.id,
          artifact.uid,
          JSON.stringify(artifact.payload),
          artifact.expiresAt,
          endsWith(artifact.clientId),
        ],
      })
      return rowCount === 1
    },

    /**
     * Takes the artifact of a uid from one state to another: true for exactly one of any number of
     * concurrent calls that leave the same state. Its end does not change.
     */
    async advance(
      artifact: Omit<Artifact, 'id' | 'expiresAt'>,
      { from, to }: { from: string | null; to: string | null },
    ): Promise<boolean> {
      if (!isStorable(artifact.uid ?? '')) return false
      const { rowCount } = await database.query({
        name: 'artifact-advance',
        text: `update artifacts
                  set state = $4, grant_id = $5, account_id = $6, session_uid = $7, payload = $8
                where kind = $1 and uid = $2 and state is not distinct from $3::text
                  and consumed_at is null and expires_at > now()`,
        values: [
          artifact.kind,
          artifact.uid,
          from,
          to,
          artifact.grantId,
          artifact.accountId,
          artifact.sessionUid,
          JSON.stringify(artifact.payload),
        ],
      })
      return rowCount === 1
    },

    /** Consumes one artifact: true for exactly one of any number of concurrent calls. */
    async consume({ kind, id }: ArtifactKey): Promise<boolean> {
      const { rowCount } = await database.query({
        name: 'artifact-consume',
        text: `update artifacts set consumed_at = now()
                where kind = $1 and id = $2 and consumed_at is null and expires_at > now()`,
        values: [kind, id],
      })
      return rowCount === 1
    },

    /**
     * Records one-time values as used, consumes one artifact and writes new ones. Of any number of
     * concurrent calls for the same artifact, or with a replay entry in common, one succeeds. The
     * others consume and write nothing; replay entries of their own stay. Calls that come together
     * are one statement and one commit.
     */
    commit,

    async remove({ kind, id }: ArtifactKey): Promise<void> {
      await database.query({
        name: 'artifact-remove',
        text: 'delete from artifacts where kind = $1 and id = $2',
        values: [kind, id],
      })
    },

    async removeByGrantId(kind: string, grantId: string): Promise<void> {
      await database.query({
        name: 'artifact-remove-by-grant',
        text: 'delete from artifacts where kind = $1 and grant_id = $2',
        values: [kind, grantId],
      })
    },

    /** Removes everything that was issued from a grant, and leaves the grant. */
    async removeIssued(grantId: string): Promise<void> {
      await database.query({
        name: 'artifact-remove-issued',
        text: 'delete from artifacts where grant_id = $1',
        values: [grantId],
      })
    },

    /** Removes a grant and everything that was issued from it. */
    async removeGrant(grant: ArtifactKey, grantId: string): Promise<void> {
      await database.query({
        name: 'artifact-remove-grant',
        text: 'delete from artifacts where (kind = $1 and id = $2) or grant_id = $3',
        values: [grant.kind, grant.id, grantId],
      })
    },

    /**
     * Ends the chain of one authorization, and what a concurrent request still issues in it. The
     * grant stays, for the other chains that come from it. Tokens of the same grant whose chain is
     * not known were issued by the previous release, and end as well.
     */
    async endFamily({
      grantId,
      familyId,
      rememberSeconds,
    }: {
      grantId: string
      familyId: string
      /** Longer than anything issued until now can live. */
      rememberSeconds: number
    }): Promise<void> {
      await database.query({
        name: 'artifact-end-family',
        text: `with ended as (
                 insert into artifacts (kind, id, payload, expires_at)
                 values ('EndedFamily', sha256(convert_to($2, 'UTF8')), '{}',
                         now() + make_interval(secs => $3))
                 on conflict on constraint artifacts_pkey do nothing
               )
               delete from artifacts
                where grant_id = $1 and kind in ('AccessToken', 'RefreshToken')
                  and (family_id = $2 or family_id is null)`,
        values: [grantId, familyId, rememberSeconds],
      })
    },

    /** The clients that a person has let in, each once, the latest first. */
    async listGrantsOf(accountId: string): Promise<StoredGrant[]> {
      const { rows } = await database.query<StoredGrant>({
        name: 'artifact-list-grants',
        text: `select payload->>'clientId' as "clientId",
                      to_timestamp(max((payload->>'iat')::float8)) as "grantedAt",
                      json_agg(json_build_object('openid', payload->'openid',
                                                 'resources', payload->'resources')) as granted
                 from artifacts
                where kind = 'Grant' and payload->>'accountId' = $1 and expires_at > now()
                group by payload->>'clientId' order by "grantedAt" desc`,
        values: [accountId],
      })
      return rows
    },

    /** The installations that hold tokens of a person which are bound to a key by DPoP. */
    async listInstallationsOf(accountId: string): Promise<Installation[]> {
      const { rows } = await database.query<Installation>({
        name: 'artifact-list-installations',
        text: `select token.payload->>'clientId' as "clientId", token.payload->>'jkt' as jkt,
                      to_timestamp(min(coalesce((token.payload->>'iiat')::float8,
                                                (token.payload->>'iat')::float8))) as since,
                      to_timestamp(max((token.payload->>'iat')::float8)) as "lastUsed"
                 from ${tokensOfPerson}
                  and token.payload->>'jkt' is not null and ${isLive('token')}
                group by 1, 2 order by "lastUsed" desc limit ${listedInstallations}`,
        values: [accountId],
      })
      return rows
    },

    /**
     * Ends one installation of a client: the chains of its tokens, and what concurrent requests still
     * issue in them. Other installations of the client continue, and so does the grant. JWT access
     * tokens live to their `exp`.
     *
     * @returns false when there is no such installation.
     */
    async endInstallation({
      accountId,
      clientId,
      jkt,
      rememberSeconds,
    }: {
      accountId: string
      /** Undefined for whatever clients use that key. */
      clientId?: string | undefined
      jkt: string
      /** Longer than anything issued until now can live. */
      rememberSeconds: number
    }): Promise<boolean> {
      if (!isStorable(clientId ?? '') || !isStorable(jkt)) return false
      const { rows } = await database.query<{ found: boolean }>({
        name: 'artifact-end-installation',
        text: `with chains as (
                 select distinct token.grant_id, token.family_id from ${tokensOfPerson}
                    and ($2::text is null or token.payload->>'clientId' = $2)
                    and token.payload->>'jkt' = $3
               ), ended as (
                 insert into artifacts (kind, id, payload, expires_at)
                 select 'EndedFamily', sha256(convert_to(family_id, 'UTF8')), '{}',
                        now() + make_interval(secs => $4)
                   from chains where family_id is not null
                 on conflict on constraint artifacts_pkey do nothing
               ), removed as (
                 delete from artifacts token using chains
                  where token.grant_id = chains.grant_id
                    and token.kind in ('AccessToken', 'RefreshToken')
                    and token.family_id is not distinct from chains.family_id
               )
               select exists (select from chains) as found`,
        values: [accountId, clientId ?? null, jkt, rememberSeconds],
      })
      return rows[0]?.found === true
    },

    /** Ends what a person lets a client do: every use of a token needs its grant. */
    async removeGrantsOf(accountId: string, clientId: string): Promise<void> {
      if (!isStorable(clientId)) return
      await database.query({
        name: 'artifact-remove-grants',
        text: `with removed as (
                 delete from artifacts
                  where kind = 'Grant'
                    and payload->>'accountId' = $1 and payload->>'clientId' = $2
               )
               update browser_sessions set authorizations = authorizations - $2::text
                where account_id = $1 and ended_at is null and authorizations ? $2`,
        values: [accountId, clientId],
      })
    },

    ...expiringRows(database, { table: 'artifacts', column: 'expires_at', before: 'now()' }),
  }
}

async function commitUnits(
  database: Database,
  units: readonly UnitOfWork[],
): Promise<CommitOutcome[]> {
  // Of units that share a replay entry the first may have it: the statement sees no difference.
  const seen = new Set<string>()
  const repeated = units.map(({ replayEntries = [] }) => {
    const at = replayEntries.findIndex(({ id }) => seen.has(id))
    for (const { id } of replayEntries) seen.add(id)
    return at
  })
  const replayEntries = units.flatMap(({ replayEntries = [] }, unit) =>
    replayEntries.map((entry) => ({ ...entry, unit })),
  )
  const open = units.flatMap((unit, at) => (repeated[at] === -1 ? [{ ...unit, at }] : []))
  const asked = open.flatMap(({ consumed, at }) => (consumed ? [{ ...consumed, unit: at }] : []))
  const written = open.flatMap(({ consumed, written, at }) =>
    written.map((artifact) => ({ ...artifact, unit: at, follows: consumed !== undefined })),
  )
  const { rows } = await database.query<{ unit: number | null; entry: string | null }>({
    name: 'artifact-commit',
    // Replay entries are inserted and locks are taken in one order everywhere, first all of the one
    // and then all of the other: nodes that do the same wait in a line and not in a circle. An update
    // changes a row once: of units that consume the same artifact it returns one. The columns
    // travel as arrays because PostgreSQL's functions on json refuse U+0000 in a payload.
    text: `with recorded as (
             ${recordEntries('$1', '$2')}
           ), replayed as (
             select unit from unnest($1::text[], $3::int[]) as entry (id, unit)
              where id <> all(array(select id from recorded))
           ), locked as (
             select asked.kind, asked.id, asked.unit
               from (select kind, id, unit
                       from unnest($4::text[], $5::bytea[], $6::int[]) as asked (kind, id, unit)
                      where unit <> all(array(select unit from replayed))
                      order by kind, id) asked
              cross join lateral (
                    select from artifacts
                     where kind = asked.kind and id = asked.id
                       and consumed_at is null and expires_at > now()
                       for update) artifact
           ), consumed as (
             update artifacts set consumed_at = now()
               from locked
              where artifacts.kind = locked.kind and artifacts.id = locked.id
             returning locked.unit
           ), written as (
             insert into artifacts
                    (kind, id, grant_id, uid, account_id, session_uid, payload, expires_at,
                     family_id, client_id, client_incarnation)
             select kind, id, grant_id, uid, account_id, session_uid, payload,
                    to_timestamp(expires_at), family_id, client_id,
                    (select incarnation from clients where clients.id = new.client_id)
               from unnest($7::int[], $8::boolean[], $9::text[], $10::bytea[], $11::text[],
                           $12::text[], $13::text[], $14::text[], $15::json[], $16::float8[],
                           $17::text[], $18::text[])
                 as new (unit, follows, kind, id, grant_id, uid, account_id, session_uid, payload,
                         expires_at, family_id, client_id)
              where unit <> all(array(select unit from replayed))
                and (not follows or unit = any(array(select unit from consumed)))
           )
           select unit, null as entry from consumed
           union all
           select null, id from recorded`,
    values: [
      replayEntries.map(({ id }) => id),
      replayEntries.map(({ expiresAt }) => expiresAt),
      replayEntries.map(({ unit }) => unit),
      asked.map(({ kind }) => kind),
      asked.map(({ id }) => id),
      asked.map(({ unit }) => unit),
      written.map(({ unit }) => unit),
      written.map(({ follows }) => follows),
      written.map(({ kind }) => kind),
      written.map(({ id }) => id),
      written.map(({ grantId }) => grantId),
      written.map(({ uid }) => uid),
      written.map(({ accountId }) => accountId),
      written.map(({ sessionUid }) => sessionUid),
      written.map(({ payload }) => JSON.stringify(payload)),
      written.map(({ expiresAt }) => expiresAt),
      written.map(({ familyId }) => familyId),
      written.map(({ clientId }) => endsWith(clientId)),
    ],
  })
  const consumed = new Set(rows.map(({ unit }) => unit))
  const recorded = new Set(rows.map(({ entry }) => entry))
  return units.map((unit, at) => {
    const replayed = unit.replayEntries?.findIndex(({ id }) => !recorded.has(id)) ?? -1
    const old = replayed === -1 ? (repeated[at] as number) : replayed
    if (old !== -1) return { replayed: old }
    return unit.consumed && !consumed.has(at) ? 'already consumed' : 'committed'
  })
}
