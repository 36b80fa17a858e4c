/**
 * Starts the official SDK, which reads the standard variables (`OTEL_*`) itself. It is loaded only
 * here, by those who ask for it: it is larger than everything else together.
 */
export async function startTracing(): Promise<AsyncDisposable> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  // Metrics and logs have ways of their own out of this process.
  const sdk = new NodeSDK({
    serviceName: 'holdfast',
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  })
  sdk.start()
  return { [Symbol.asyncDispose]: () => sdk.shutdown() }
}
