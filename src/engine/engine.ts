import Provider, {
  type Configuration,
  type TokenEndpointGrantContext,
  type UnknownObject,
} from 'oidc-provider'

/** oidc-provider, which issues no token by itself. What is added to it is in extensions.ts. */
export function createEngine(issuer: string, configuration: Configuration): Provider {
  class Engine extends Provider {
    // The engine calls this for each of its own grants while it is constructed. None of them is
    // made by it: whatever path would lead to its own token endpoint ends here.
    override registerGrantType<Params extends object = UnknownObject>(
      name: string,
      _handler: (ctx: TokenEndpointGrantContext<Params>) => void | Promise<void>,
      ...rest: GrantParameters
    ): void {
      const refuse = () => {
        throw new Error('tokens are issued by src/token-endpoint')
      }
      super.registerGrantType(name, refuse, ...rest)
    }
  }
  return new Engine(issuer, configuration)
}

type GrantParameters =
  Parameters<Provider['registerGrantType']> extends [unknown, unknown, ...infer Rest] ? Rest : never
