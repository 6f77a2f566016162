package nb.arrow

import java.nio.charset.StandardCharsets.UTF_8
import java.nio.{ByteBuffer, ByteOrder}

/** Where a message of a file begins, and how long its head is. */
private[arrow] final case class Block(offset: Long, headBytes: Int)

/** A table of a flat buffer: fields by their numbers, of which each may be missing. */
private[arrow] final class Table(data: ByteBuffer, at: Int) {
  private val known = at - data.getInt(at)
  private val knownBytes = data.getShort(known) & 0xffff

  private def place(field: Int): Int = {
    val entry = 4 + 2 * field
    val offset = if (entry < knownBytes) data.getShort(known + entry) & 0xffff else 0
    if (offset == 0) 0 else at + offset
  }

  private def value[T](field: Int, missing: T)(read: Int => T): T = place(field) match {
    case 0  => missing
    case at => read(at)
  }

  def byte(field: Int): Int = value(field, 0)(data.get(_) & 0xff)
  def short(field: Int, missing: Int = 0): Int = value(field, missing)(data.getShort(_))
  def int(field: Int, missing: Int = 0): Int = value(field, missing)(data.getInt(_))
  def long(field: Int): Long = value(field, 0L)(data.getLong(_))
  def table(field: Int): Option[Table] = value(field, Option.empty[Table])(at => Some(new Table(data, at + data.getInt(at))))

  def string(field: Int): String = value(field, "") { at =>
    val start = at + data.getInt(at)
    val text = new Array[Byte](data.getInt(start))
    val view = data.duplicate()
    view.position(start + 4)
    view.get(text)
    new String(text, UTF_8)
  }

  private def elements(field: Int, bytes: Int): IndexedSeq[Int] = value(field, IndexedSeq.empty[Int]) { at =>
    val start = at + data.getInt(at)
    (0 until data.getInt(start)).map(n => start + 4 + n * bytes)
  }

  def tables(field: Int): IndexedSeq[Table] = elements(field, 4).map(at => new Table(data, at + data.getInt(at)))

  /** Structs of so many bytes each. */
  def structs(field: Int, bytes: Int): IndexedSeq[ByteBuffer] = elements(field, bytes).map { at =>
    val view = data.duplicate()
    view.position(at)
    view.limit(at + bytes)
    view.slice().order(ByteOrder.LITTLE_ENDIAN)
  }

  def blocks(field: Int): IndexedSeq[Block] =
    structs(field, 24).map(block => Block(block.getLong(0), block.getInt(8)))
}

private[arrow] object Table {
  def root(data: ByteBuffer): Table = new Table(data, data.getInt(0))
}
