import type { Knex } from 'knex'
import type { Adapter, AdapterPayload } from 'oidc-provider'

/** One table for all models: the shape that knex adapters for oidc-provider have. */
export async function createTables(knex: Knex): Promise<void> {
  await knex.schema.createTable('oidc_payloads', (table) => {
    table.string('id')
    table.string('model')
    table.jsonb('payload').notNullable()
    table.string('grant_id').index()
    table.string('uid').index()
    table.timestamp('expires_at')
    table.timestamp('consumed_at')
    table.primary(['id', 'model'])
  })
}

interface Row {
  payload: AdapterPayload
  expires_at: Date | null
  consumed_at: Date | null
}

/** Find, then save: what the engine's documentation asks of an adapter, and no more. */
export function createKnexAdapter(knex: Knex) {
  return (model: string): Adapter => {
    const table = () => knex<Row & { id: string; model: string }>('oidc_payloads')
    const asPayload = (row: Row | undefined) => {
      if (!row || (row.expires_at && row.expires_at < new Date())) return undefined
      return { ...row.payload, ...(row.consumed_at && { consumed: true }) }
    }
    const find = async (where: object) =>
      asPayload(
        await table()
          .where({ model, ...where })
          .first(),
      )
    return {
      async upsert(id, payload, expiresIn) {
        await knex('oidc_payloads')
          .insert({
            id,
            model,
            payload: JSON.stringify(payload),
            grant_id: payload.grantId,
            uid: payload.uid,
            expires_at: expiresIn ? new Date(Date.now() + expiresIn * 1000) : null,
          })
          .onConflict(['id', 'model'])
          .merge()
      },
      find: (id) => find({ id }),
      findByUid: (uid) => find({ uid }),
      findByUserCode: (user_code) => find({ user_code }),
      async consume(id) {
        await table().where({ id, model }).update({ consumed_at: new Date() })
      },
      async destroy(id) {
        await table().where({ id, model }).delete()
      },
      async revokeByGrantId(grant_id) {
        await knex('oidc_payloads').where({ grant_id }).delete()
      },
    }
  }
}
