/** RFC 1035, section 4: the parts of a message that a forwarder looks at. */
const headBytes = 12;
const typeA = 1;
const refusedCode = 5;

/** The name that a query asks for, in lower case and without its last dot; `undefined` for what is no query. */
export function questionOf(message: Uint8Array): string | undefined {
  if (message.length < headBytes + 5 || new DataView(message.buffer, message.byteOffset).getUint16(4) !== 1)
    return undefined;
  const labels: string[] = [];
  let at = headBytes;
  for (let length = message[at]; length !== 0; length = message[at]) {
    if (length === undefined || length > 63 || at + length >= message.length) return undefined;
    labels.push(Buffer.from(message.subarray(at + 1, at + 1 + length)).toString("latin1"));
    at += 1 + length;
  }
  return labels.join(".").toLowerCase();
}

/** An IPv4 address in an answer: where it stands in the message, and for how long it holds. */
type Address = { readonly ip: string; readonly seconds: number };

/** The IPv4 addresses among a message's answers. Throws on a message that is cut. */
export function addressesIn(message: Uint8Array): Address[] {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const found: Address[] = [];
  let at = skipName(view, headBytes) + 4;
  for (let left = view.getUint16(6); left > 0; left--) {
    at = skipName(view, at);
    const [type, seconds, length] = [view.getUint16(at), view.getUint32(at + 4), view.getUint16(at + 8)];
    at += 10;
    if (type === typeA && length === 4) found.push({ ip: message.subarray(at, at + 4).join("."), seconds });
    at += length;
  }
  return found;
}

function skipName(view: DataView, from: number): number {
  for (let at = from; ; ) {
    const length = view.getUint8(at);
    if (length >= 0xc0) return at + 2; // a pointer ends a name
    if (length === 0) return at + 1;
    at += 1 + length;
  }
}

/** An answer to `query` that says no. */
export function refusal(query: Uint8Array): Uint8Array {
  const answer = query.slice();
  answer[2] = (answer[2]! & 0x79) | 0x80; // an answer, neither authoritative nor truncated
  answer[3] = 0x80 | refusedCode;
  answer.fill(0, 6, headBytes); // no records; what follows the question is ignored
  return answer;
}
