import type Provider from 'oidc-provider'

/**
 * Looks at the parameters of each request where the engine assembles them: from a query, a body or
 * an interaction, before it reads any. The engine continues with what is returned.
 */
export function interceptParameters(
  engine: Provider,
  intercept: (params: Record<string, unknown>) => object,
): void {
  const { prototype } = engine.OIDCContext
  const before = Object.getOwnPropertyDescriptor(prototype, 'params') ?? storage()
  Object.defineProperty(prototype, 'params', {
    ...before,
    set(this: object, params: Record<string, unknown>) {
      let seen: object = params
      try {
        seen = intercept(params)
      } finally {
        // The engine's own answer to an error needs them, too.
        before.set?.call(this, seen)
      }
    },
  })
}

function storage(): PropertyDescriptor {
  const assembled = new WeakMap<object, object>()
  return {
    configurable: true,
    get(this: object) {
      return assembled.get(this)
    },
    set(this: object, params: object) {
      assembled.set(this, params)
    },
  }
}
