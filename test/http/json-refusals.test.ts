import test from 'ava'
import { machineRoutes } from '../../src/http/machine-routes.ts'
import { allRoutes } from '../../src/http/routes.ts'
import { useTestServer } from '../support/server.ts'

const server = useTestServer(test, {
  HOLDFAST_ADMIN_API: 'on',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_REGISTRATION: 'on',
  HOLDFAST_REFUSAL_LIMIT: '100000',
})

const tooLong = 'x'.repeat(200_000)

/** What is wrong with a request, and what it sends where a body is possible. */
const broken: Readonly<Record<string, { type: string; body: string }>> = {
  'no credentials': { type: 'application/x-www-form-urlencoded', body: 'a=b' },
  'another content type': { type: 'text/plain', body: '{}' },
  'a body that is too long': { type: 'application/json', body: `{"a":"${tooLong}"}` },
  'a form that is too long': { type: 'application/x-www-form-urlencoded', body: `a=${tooLong}` },
}

for (const [problem, { type, body }] of Object.entries(broken)) {
  test(`answers ${problem} with JSON that has an error, at every machine route`, async (t) => {
    for (const name of machineRoutes) {
      const { methods, path } = allRoutes[name]
      for (const method of methods) {
        const response = await fetch(server.issuer + path.replace(/:\w+/g, 'some'), {
          method,
          // What the HTTP clients of some languages ask for by default.
          headers: { accept: 'text/html, */*;q=0.5', 'content-type': type },
          ...(method !== 'GET' && { body }),
        })
        const text = await response.text()
        const what = `${method} ${path}: ${response.status} ${text.slice(0, 100)}`
        t.true(response.status >= 400 && response.status < 500, what)
        t.regex(response.headers.get('content-type') ?? '', /^application\/json/, what)
        t.regex(String(JSON.parse(text).error), /^[a-z_]+$/, what)
      }
    }
  })
}
