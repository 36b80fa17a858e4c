import type { Database } from './database.ts'
import { expiringRows } from './expiring-rows.ts'

/** RFC 8628 section 3.5: what a device that asks too often has to wait longer, in seconds. */
const penalty = 5

/** Seconds by which a request may come early: networks deliver neither at once nor evenly. */
const tolerance = 1

export type DevicePollTable = ReturnType<typeof createDevicePollTable>

/** The table `device_polls`: how often each device asks for its tokens. */
export function createDevicePollTable(database: Database) {
  return {
    /**
     * Notes that a device has asked. One statement decides for any number of requests at once, on
     * any number of nodes: all but the first have come too early.
     *
     * @param id SHA-256 of the device code.
     * @param options `pause` in seconds, which each request that comes too early lengthens for good;
     *   `expiresAt` in seconds since the epoch.
     * @returns whether it has waited long enough.
     */
    async take(
      id: Buffer,
      { pause, expiresAt }: { pause: number; expiresAt: number },
    ): Promise<boolean> {
      const { rows } = await database.query<{ early: boolean }>({
        name: 'device-poll-take',
        text: `insert into device_polls (id, pause, due, early, expires_at)
               values ($1, $2::int, now() + make_interval(secs => $2::int - $3::int), false,
                       to_timestamp($4))
               on conflict on constraint device_polls_pkey do update
                  set early = now() < device_polls.due,
                      pause = device_polls.pause
                              + case when now() < device_polls.due then $5::int else 0 end,
                      due = now() + make_interval(secs => device_polls.pause - $3::int
                              + case when now() < device_polls.due then $5::int else 0 end)
               returning early`,
        values: [id, pause, tolerance, expiresAt, penalty],
      })
      return !rows[0]?.early
    },

    ...expiringRows(database, { table: 'device_polls', column: 'expires_at', before: 'now()' }),
  }
}
