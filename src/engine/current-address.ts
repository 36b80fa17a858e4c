import Provider from 'oidc-provider'

/** The address that the request of an endpoint of the engine comes from; undefined outside of one. */
export function addressOfEngineRequest(): string | undefined {
  const address: unknown = Provider.ctx?.state.address
  return typeof address === 'string' ? address : undefined
}
