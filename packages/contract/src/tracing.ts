/** Traces over the processes of an installation (W3C Trace Context). Nothing is recorded unless a program starts an SDK. */
import { type Context, context, propagation, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { WrennError } from "./errors.ts";

/** What a span tells, in the words of OpenTelemetry's semantic conventions where they have one. */
export type Facts = Readonly<Record<string, string | number>>;

const tracer = trace.getTracer("wrenn");

/** Does `work` in the span of a request that came in, as part of the trace that its headers name. */
export function served<T>(given: Headers, name: string, work: (span: Span) => Promise<T>): Promise<T> {
  const from = propagation.extract(context.active(), given, {
    get: (carrier, key) => carrier.get(key) ?? undefined,
    keys: (carrier) => [...carrier.keys()],
  });
  return spanned({ from, name, kind: SpanKind.SERVER }, work);
}

/** Does `work` in the span of a call that goes out; `sent`, its headers, name the trace. */
export function called<T>(sent: Headers, name: string, facts: Facts, work: () => Promise<T>): Promise<T> {
  return spanned({ from: context.active(), name, kind: SpanKind.CLIENT }, (span) => {
    span.setAttributes(facts);
    inTrace(sent);
    return work();
  });
}

/** Names the trace under way in the headers of a request that has no span of its own, such as a long stream. */
export function inTrace(sent: Headers): void {
  propagation.inject(context.active(), sent, { set: (carrier, key, value) => carrier.set(key, value) });
}

type Frame = { from: Context; name: string; kind: SpanKind };

function spanned<T>({ from, name, kind }: Frame, work: (span: Span) => Promise<T>): Promise<T> {
  return tracer.startActiveSpan(name, { kind }, from, async (span) => {
    try {
      return await work(span);
    } catch (thrown) {
      const { code, message, status } = WrennError.from(thrown);
      span.setAttribute("error.type", code);
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR, message });
      throw thrown;
    } finally {
      span.end();
    }
  });
}
