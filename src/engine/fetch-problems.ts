import type Koa from 'koa'
import type { Context } from 'koa'
import type Provider from 'oidc-provider'
import { findFetchProblem } from '../net/fetch-problem.ts'

/** Endpoints of the engine that authenticate clients. */
const endpoints = ['pushed_authorization_request', 'device_authorization'] as const

/**
 * Says why the keys of a client could not be fetched: the engine's answer names no reason. An
 * error page shows no reason.
 */
export function explainFailedFetches(engine: Provider): void {
  const app: Koa = engine
  for (const endpoint of endpoints) {
    app.on(`${endpoint}.error`, (ctx: Context, error: unknown) => {
      const problem = findFetchProblem(error)
      if (!problem || typeof ctx.body !== 'object' || ctx.body === null) return
      ctx.body = { ...ctx.body, error_description: problem.forClient }
    })
  }
}
