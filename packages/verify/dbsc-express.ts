/** Device Bound Session Credentials for express, and for whatever else speaks connect. */
import type { DbscSessions } from './dbsc-sessions.ts'

/** What is needed of an express request. */
export type DbscExpressRequest = {
  method: string
  path: string
  get(name: string): string | undefined
}

/** What is needed of an express response. */
export type DbscExpressResponse = {
  statusCode: number
  setHeader(name: string, value: string): unknown
  end(body: string): unknown
}

/**
 * Makes express middleware that answers browsers at the endpoints of device-bound sessions. Mount it
 * at the root.
 *
 * It does NOT look at any other request: ask `provenAt` for those.
 *
 * @param session - the session that the site's own cookie names on a request.
 *
 * @example
 * ```ts
 * app.use(expressDbsc(dbsc, (request) => request.session?.id))
 * ```
 */
export function expressDbsc<Request extends DbscExpressRequest>(
  dbsc: DbscSessions,
  session: (request: Request) => string | undefined | Promise<string | undefined>,
) {
  return (
    request: Request,
    response: DbscExpressResponse,
    next: (error?: unknown) => void,
  ): void => {
    const { method, path } = request
    const header = (name: string) => request.get(name)
    dbsc
      .handle({ method, path, header, session: () => session(request) })
      .then((answer) => {
        if (answer === undefined) return next()
        response.statusCode = answer.status
        for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value)
        response.setHeader('Content-Type', 'application/json')
        response.end(JSON.stringify(answer.body ?? {}))
      })
      .catch(next)
  }
}
