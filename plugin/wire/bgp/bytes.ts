/**
 * A reading position in a byte string, and a growing byte string. Reads past the end yield undefined, never an
 * exception: what comes from a peer is decoded with these alone.
 */
export class Cursor {
  private at = 0;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.bytes.length - this.at;
  }
  u8(): number | undefined {
    return this.left < 1 ? undefined : this.view.getUint8(this.at++);
  }
  u16(): number | undefined {
    if (this.left < 2) return undefined;
    this.at += 2;
    return this.view.getUint16(this.at - 2);
  }
  u32(): number | undefined {
    if (this.left < 4) return undefined;
    this.at += 4;
    return this.view.getUint32(this.at - 4);
  }
  /** The next `length` bytes, not copied. */
  take(length: number): Uint8Array | undefined {
    if (this.left < length) return undefined;
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
  rest(): Uint8Array {
    const out = this.bytes.subarray(this.at);
    this.at = this.bytes.length;
    return out;
  }
}

export const u16 = (value: number): Uint8Array => Uint8Array.of(value >>> 8, value);
export const u32 = (value: number): Uint8Array =>
  Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
