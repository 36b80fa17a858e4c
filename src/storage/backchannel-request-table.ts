import { isLive } from './artifact-table.ts'
import type { Database } from './database.ts'

/** The kind of artifacts that these requests are. */
export const backchannelRequestKind = 'BackchannelAuthenticationRequest'

/**
 * Seconds for which a client that comes too late gets expired_token, and not invalid_grant: a row
 * lives that much longer than its request.
 */
export const backchannelAfterlifeS = 10 * 60

/** A request that waits for a person (CIBA Core section 7). */
export interface PendingBackchannelRequest {
  /** SHA-256 of the auth_req_id, hexadecimal: who knows it cannot redeem anything. */
  readonly id: string
  readonly payload: Record<string, unknown>
}

/** Requests of one client that a person is shown: it must not hide those of others. */
const ofOneClient = 2

/** How a person has decided. */
export interface BackchannelDecision {
  readonly grantId: string | undefined
  /** Of the request, with the decision in it. Its `ping` is what the client is notified with. */
  readonly payload: Record<string, unknown>
}

/** Notifications that wait for one client; of more it learns when it asks. */
const pingsOfOneClient = 1000

export type BackchannelRequestTable = ReturnType<typeof createBackchannelRequestTable>

/** Requests of the backchannel as their person sees them. Their `uid` is the account. */
export function createBackchannelRequestTable(database: Database) {
  return {
    /** Those that nobody has decided, the latest first; of each client a few. */
    async listPending(accountId: string, limit: number): Promise<PendingBackchannelRequest[]> {
      const { rows } = await database.query<PendingBackchannelRequest>({
        name: 'backchannel-pending',
        text: `select id, payload
                 from (select encode(id, 'hex') as id, payload, expires_at,
                              row_number() over (partition by client_id
                                                 order by expires_at desc) as place
                         from artifacts
                        where kind = $1 and uid = $2 and state is null and consumed_at is null
                          and expires_at > now() + make_interval(secs => $4)
                          and ${isLive('artifacts')}) pending
                where place <= $5
                order by expires_at desc limit $3`,
        values: [backchannelRequestKind, accountId, limit, backchannelAfterlifeS, ofOneClient],
      })
      return rows
    },

    /**
     * Decides a request of an account, and queues the notification of its client: true for exactly one
     * of any number of concurrent calls.
     *
     * @param id as in the list.
     */
    async decide(
      accountId: string,
      id: string,
      { grantId, payload: { ping, ...payload } }: BackchannelDecision,
    ): Promise<boolean> {
      if (!/^[0-9a-f]{64}$/.test(id)) return false
      const { rowCount } = await database.query({
        name: 'backchannel-decide',
        text: `with decided as (
                 update artifacts
                    set state = 'decided', grant_id = $4, payload = $5
                  where kind = $1 and uid = $2 and id = decode($3, 'hex') and state is null
                    and consumed_at is null
                    and expires_at > now() + make_interval(secs => $6) and ${isLive('artifacts')}
                 returning id, client_id, uid, expires_at - make_interval(secs => $6) as ends_at
               ), queued as (
                 insert into ping_deliveries (client_id, account_id, request_id, sealed, expires_at)
                 select client_id, uid, id, $7, ends_at from decided
                  where $7::text is not null
                    and (select count(*) from (select from ping_deliveries
                                                where client_id = decided.client_id
                                                limit $8) as waiting) < $8
                 on conflict on constraint ping_deliveries_once do nothing
               )
               select from decided`,
        values: [
          backchannelRequestKind,
          accountId,
          id,
          grantId ?? null,
          JSON.stringify(payload),
          backchannelAfterlifeS,
          ping ?? null,
          pingsOfOneClient,
        ],
      })
      return rowCount === 1
    },
  }
}
