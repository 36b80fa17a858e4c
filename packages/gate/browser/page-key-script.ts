/**
 * The script of the key of a page. At the gate's own pages it makes a key or proves it, and continues.
 * In pages of the application it proves the key before the cookie that says so expires.
 */
export const pageKeyScript = String.raw`// A key of this origin that the browser keeps and does not give away. It proves that the session is
// this browser's. Pages may include this module, and wait for proven() before a request.
const own = new URL('./page-key/', import.meta.url)
const isOwnPage = location.pathname.startsWith(new URL('.', import.meta.url).pathname)
// Markup in a page of the application has no say in where this goes.
const data = isOwnPage ? document.querySelector('script[data-next]')?.dataset : undefined
const bytes = (text) => new TextEncoder().encode(text)
const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const patienceMs = 2000

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '')

// The proof of a browser with Device Bound Session Credentials.
async function proofOf(privateKey, challenge, jwk) {
  const header = { alg: 'ES256', typ: 'dbsc+jwt', ...(jwk && { jwk }) }
  const parts = [header, { jti: challenge }].map((part) => encode(bytes(JSON.stringify(part))))
  const input = parts.join('.')
  return input + '.' + encode(await crypto.subtle.sign(ecdsa, privateKey, bytes(input)))
}

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })

async function keys(mode, work) {
  const opening = indexedDB.open('holdfast-gate', 1)
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

const mostKeys = 4

const find = (key) => keys('readonly', (store) => asked(store.index('key').get(key)))

function send(path, proof) {
  const headers = proof === undefined ? {} : { 'Secure-Session-Response': proof }
  const signal = AbortSignal.timeout(patienceMs)
  return fetch(new URL(path, own), { method: 'POST', headers, signal })
}

// When the next proof is due, for all tabs: only so that no page sends one too many.
const dueName = 'holdfast-gate-page-key'
let dueAt = 0
function note(seconds) {
  dueAt = Date.now() + seconds * 750
  try {
    localStorage.setItem(dueName, String(dueAt))
  } catch {}
}
function isDue() {
  try {
    dueAt = Number(localStorage.getItem(dueName))
  } catch {}
  return !(dueAt > Date.now() && dueAt < Date.now() + 3600000)
}

// The key is kept first: an answer that is lost does not lose the session.
async function register(challenge) {
  const pair = await crypto.subtle.generateKey(ecdsa, false, ['sign', 'verify'])
  const { crv, kty, x, y } = await crypto.subtle.exportKey('jwk', pair.publicKey)
  const jwk = { crv, kty, x, y }
  const key = encode(await crypto.subtle.digest('SHA-256', bytes(JSON.stringify(jwk))))
  const proof = await proofOf(pair.privateKey, challenge, jwk)
  await keys('readwrite', async (store) => {
    const orders = await asked(store.getAllKeys())
    for (const order of orders.slice(0, -mostKeys)) store.delete(order)
    store.add({ key, privateKey: pair.privateKey })
  })
  const response = await send('registration', proof)
  if (response.ok) note((await response.json()).seconds)
}

// Whether it is worth trying again. The gate names the key that it wants a proof of.
async function prove({ key, challenge } = {}) {
  for (const _ of [1, 2]) {
    const found = key === undefined ? undefined : await find(key)
    if (key !== undefined && found === undefined) return false
    const response = await send('proof', found && (await proofOf(found.privateKey, challenge)))
    if (response.status === 404) return false
    challenge = /^"([^"]+)"/.exec(response.headers.get('secure-session-challenge'))?.[1]
    if (challenge === undefined) return true
    const answer = await response.json()
    if (response.ok) {
      note(answer.seconds)
      return true
    }
    key = answer.key
  }
  return true
}

let proving
let isOver = false

// Resolves when the key was proven, or cannot be.
export function proven() {
  if (isOver || !isDue()) return Promise.resolve()
  proving ??= prove()
    .then((isWorth) => {
      isOver = !isWorth
    })
    .catch(() => {})
    .finally(() => {
      proving = undefined
    })
  return proving
}

async function keepProven() {
  await proven()
  if (isOver) return
  const leftMs = dueAt - Date.now()
  // After an error, not at once again.
  setTimeout(keepProven, leftMs > 0 ? leftMs : 10000)
}

if (data === undefined) {
  keepProven()
  document.addEventListener('visibilitychange', () => document.hidden || proven())
} else {
  const work = (data.register ? register(data.register) : prove(data)).catch(() => {})
  await Promise.race([work, new Promise((done) => setTimeout(done, patienceMs))])
  location.replace(data.next)
}
`
