// Page keys: keeps a key in this browser that cannot be copied out of it, and proves with it that the
// session is this browser's. A sign-in page registers one, by a field of its forms; pages in the
// session prove it before the cookie that says so expires. Without this the session has no key.
const base = new URL('..', import.meta.url)
const refreshUrl = new URL('dbsc/refresh', base)
const session = document.querySelector('script[data-key]')?.dataset
const bytes = (text) => new TextEncoder().encode(text)

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '')

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** The proof of a browser with Device Bound Session Credentials. */
async function proofOf(privateKey, challenge, jwk) {
  const header = { alg: 'ES256', typ: 'dbsc+jwt', ...(jwk && { jwk }) }
  const parts = [header, { jti: challenge }].map((part) => encode(bytes(JSON.stringify(part))))
  const input = parts.join('.')
  return `${input}.${encode(await crypto.subtle.sign(ecdsa, privateKey, bytes(input)))}`
}

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })

/** One transaction. Databases are those of an origin, and several servers may share one. */
async function keys(mode, work) {
  const opening = indexedDB.open(`holdfast ${base.pathname}`, 1)
  opening.onupgradeneeded = () =>
    opening.result
      .createObjectStore('keys', { keyPath: 'order', autoIncrement: true })
      .createIndex('key', 'key')
  const database = await asked(opening)
  try {
    const transaction = database.transaction('keys', mode)
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve
      transaction.onabort = () => reject(transaction.error)
    })
    const result = await work(transaction.objectStore('keys'))
    await done
    return result
  } finally {
    database.close()
  }
}

/** Sign-in pages leave keys behind that no session came to. */
const mostKeys = 8

/** A key of its own for each page. The forms have its proof as soon as the browser has kept it. */
async function register(fields) {
  const { pageKey: challenge, keep } = fields[0].dataset
  const pair = await crypto.subtle.generateKey(ecdsa, false, ['sign', 'verify'])
  const { crv, kty, x, y } = await crypto.subtle.exportKey('jwk', pair.publicKey)
  const jwk = { crv, kty, x, y }
  const key = encode(await crypto.subtle.digest('SHA-256', bytes(JSON.stringify(jwk))))
  const proof = await proofOf(pair.privateKey, challenge, jwk)
  await keys('readwrite', async (store) => {
    const kept = await asked(store.index('key').getKey(keep))
    const orders = await asked(store.getAllKeys())
    for (const order of orders.slice(0, -mostKeys)) if (order !== kept) store.delete(order)
    store.add({ key, privateKey: pair.privateKey })
  })
  for (const field of fields) field.value = proof
}

async function remove(key) {
  await keys('readwrite', async (store) => {
    const order = await asked(store.index('key').getKey(key))
    if (order !== undefined) store.delete(order)
  })
}

/** This clock only says how long a page has been open. */
let dueAt = Number.POSITIVE_INFINITY
let timer

/** A page that nobody looks at refreshes when it is looked at again. */
function refreshIn(seconds) {
  dueAt = Date.now() + seconds * 1000
  clearTimeout(timer)
  timer = setTimeout(() => document.hidden || refresh(), seconds * 1000)
}

/** A page in between continues after this by itself. */
const patienceMs = 4000

const within = (work, ms) => Promise.race([work, new Promise((done) => setTimeout(done, ms))])

/** The server names the key that it wants a proof of, and may ask once more. */
async function proveKey() {
  for (const _ of [1, 2]) {
    const found = await keys('readonly', (store) => asked(store.index('key').get(session.key)))
    if (!found) return
    const proof = await proofOf(found.privateKey, session.challenge)
    const headers = { 'Secure-Session-Response': proof }
    const signal = AbortSignal.timeout(patienceMs)
    const response = await fetch(refreshUrl, { method: 'POST', headers, signal })
    if (response.status === 400) return remove(session.key)
    const next = /^"([^"]+)"/.exec(response.headers.get('secure-session-challenge'))?.[1]
    if (!next) return refreshIn(30)
    const { key, seconds } = await response.json()
    Object.assign(session, { challenge: next, key })
    if (response.ok) return refreshIn(seconds * 0.8)
  }
}

let refreshing

/** Leaves the page as it is whatever happens: without a proof the server asks for a sign-in. */
function refresh() {
  dueAt = Number.POSITIVE_INFINITY
  refreshing ??= proveKey()
    .catch(() => refreshIn(30))
    .finally(() => {
      refreshing = undefined
    })
  return refreshing
}

const isDue = () => refreshing !== undefined || Date.now() > dueAt

/** What leads to the next page waits for the proof that is due, as browsers with DBSC do it. */
function keepProven() {
  refreshIn(session.seconds * 0.8)
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && isDue()) refresh()
  })
  document.addEventListener('click', async (event) => {
    const link = event.target.closest?.('a[href]')
    const isPlain = !(event.button || event.ctrlKey || event.metaKey || event.shiftKey)
    if (!link || link.target || !isPlain || event.defaultPrevented || !isDue()) return
    event.preventDefault()
    await within(refresh(), patienceMs)
    location.assign(link.href)
  })
  document.addEventListener('submit', async (event) => {
    const { target: form, submitter, defaultPrevented } = event
    const isEnd = submitter?.value === 'yes' && form.action.endsWith('/session/end/confirm')
    if (defaultPrevented || form.dataset.sent || !(isEnd || isDue())) return
    event.preventDefault()
    form.dataset.sent = 'yes'
    if (isDue()) await within(refresh(), patienceMs)
    const removed = isEnd ? remove(session.key).catch(() => {}) : undefined
    await within(removed, patienceMs)
    form.requestSubmit(submitter)
  })
}

const fields = document.querySelectorAll('[data-page-key]')
if (fields.length > 0) register([...fields]).catch(() => {})
if (session?.next !== undefined) {
  await within(refresh(), patienceMs)
  location.replace(session.next || location.pathname + location.search)
} else if (session) keepProven()
