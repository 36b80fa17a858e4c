// Passkeys (WebAuthn) on our pages: asks the browser what the page says, and submits the answer in
// the form. Nothing is fetched and nothing is kept. Pages say themselves what works without it.
const decode = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '')

const described = (id) => ({ type: 'public-key', id: decode(id) })

function requestOf({ challenge, rpId, allow }) {
  return {
    challenge: decode(challenge),
    rpId,
    allowCredentials: allow.map(described),
    userVerification: 'required',
  }
}

function creationOf(options) {
  return {
    ...options,
    challenge: decode(options.challenge),
    user: { ...options.user, id: decode(options.user.id) },
    excludeCredentials: options.excludeCredentials.map(({ id, transports }) => ({
      ...described(id),
      transports,
    })),
  }
}

/** As PublicKeyCredential.toJSON() writes it, which not every browser has. */
function answerOf({ id, rawId, type, response }) {
  const fields = ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle']
  if (response.attestationObject) fields.splice(1, 3, 'attestationObject')
  const encoded = fields.map((name) => [name, encode(response[name] ?? new ArrayBuffer(0))])
  const transports = response.getTransports ? { transports: response.getTransports() } : {}
  return JSON.stringify({
    id,
    rawId: encode(rawId),
    type,
    response: { ...Object.fromEntries(encoded), ...transports },
    clientExtensionResults: {},
  })
}

/** A form with the options of one ceremony, the field for the answer, and a button that begins it. */
function serve(form) {
  const { passkeyRequest, passkeyCreation } = form.dataset
  const options = JSON.parse(passkeyRequest ?? passkeyCreation)
  const button = form.querySelector('[data-passkey]')
  const failed = form.querySelector('[data-passkey-failed]')
  let waiting = new AbortController()

  async function ask(mediation) {
    waiting.abort()
    waiting = new AbortController()
    const { signal } = waiting
    const credential = passkeyRequest
      ? await navigator.credentials.get({ publicKey: requestOf(options), signal, mediation })
      : await navigator.credentials.create({ publicKey: creationOf(options), signal })
    form.elements.credential.value = answerOf(credential)
    form.requestSubmit(button)
  }

  /** Offers passkeys among what the browser fills in, for as long as nothing else is asked. */
  async function offer() {
    const isOffered = form.hasAttribute('data-passkey-autofill')
    if (isOffered && (await PublicKeyCredential.isConditionalMediationAvailable?.())) {
      await ask('conditional').catch(() => {})
    }
  }

  form.addEventListener('submit', async (event) => {
    if (event.submitter !== button || form.elements.credential.value) return
    event.preventDefault()
    failed.hidden = true
    try {
      await ask(undefined)
    } catch {
      // The person has cancelled, or has no passkey: the page stays as it is.
      failed.hidden = false
      await offer()
    }
  })
  for (const hidden of [form, button]) hidden.hidden = false
  void offer()
}

/** Tells the browser which passkeys there still are, and what the account is called. */
function signal(element) {
  for (const [method, options] of Object.entries(JSON.parse(element.dataset.passkeySignals))) {
    PublicKeyCredential[method]?.(options).catch(() => {})
  }
}

if (window.PublicKeyCredential) {
  for (const note of document.querySelectorAll('[data-without-passkeys]')) note.hidden = true
  const forms = document.querySelectorAll('[data-passkey-request], [data-passkey-creation]')
  for (const form of forms) serve(form)
  for (const element of document.querySelectorAll('[data-passkey-signals]')) signal(element)
}
