// Modules of oidc-provider that are not its interface: what a peer of the benchmark is made from.

declare module 'oidc-provider/lib/helpers/lru.js' {
  // biome-ignore lint/style/noDefaultExport: it is the engine's.
  export default class Lru {
    constructor(options: { maxSize: number })
  }
}

declare module 'oidc-provider/lib/adapters/memory_adapter.js' {
  import type { Adapter } from 'oidc-provider'
  import type Lru from 'oidc-provider/lib/helpers/lru.js'

  const MemoryAdapter: new (model: string, store: Lru) => Adapter
  // biome-ignore lint/style/noDefaultExport: it is the engine's.
  export default MemoryAdapter
}
