package nb

import java.io.{IOException, RandomAccessFile}
import java.math.{BigDecimal, BigInteger}
import java.nio.channels.FileChannel
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.{ByteBuffer, ByteOrder}
import java.time.{Duration, Instant, LocalDate, LocalDateTime, LocalTime, ZoneId, ZoneOffset, ZonedDateTime}

/** A table that another kernel of the notebook has handed over: `df("name")` is a column, `df.rows` are its rows. What is missing is null.
  *
  * Nothing is copied: values are read where the table lies in memory.
  */
final class Frame private (val names: IndexedSeq[String], val kinds: IndexedSeq[String], columns: IndexedSeq[IndexedSeq[Any]], val size: Int) {
  private lazy val places = names.zipWithIndex.toMap

  /** The column of this name. */
  def apply(name: String): IndexedSeq[Any] = columns(place(name))

  /** The column of this name, whose values are of this type: `df.as[Long]("id").sum`. */
  def as[T](name: String): IndexedSeq[T] = apply(name).asInstanceOf[IndexedSeq[T]]

  /** Its rows. */
  def rows: IndexedSeq[Frame.Row] = new Frame.Seen(size, new Frame.Row(this, _))

  private[nb] def value(name: String, row: Int): Any = columns(place(name))(row)

  private def place(name: String): Int =
    places.getOrElse(name, throw new NoSuchElementException(s"there is no column $name; there is ${names.mkString(", ")}"))

  override def toString: String = {
    val shown = names.zip(kinds).map { case (name, kind) => s"$name: $kind" }
    s"$size rows of ${shown.mkString(", ")}"
  }
}

object Frame {

  /** One row of a frame. */
  final class Row private[Frame] (frame: Frame, at: Int) {
    def apply(name: String): Any = frame.value(name, at)
    def as[T](name: String): T = apply(name).asInstanceOf[T]
    override def toString: String = frame.names.map(name => s"$name = ${apply(name)}").mkString("Row(", ", ", ")")
  }

  /** The table in this file of Arrow's IPC format (arrow.apache.org/docs/format/Columnar.html). */
  def read(path: String): Frame = {
    val file = new RandomAccessFile(path, "r")
    try new Reader(file.getChannel).frame()
    finally file.close()
  }

  /** So many values, made when they are looked at. */
  private final class Seen[T](val length: Int, at: Int => T) extends IndexedSeq[T] {
    def apply(i: Int): T =
      if (i < 0 || i >= length) throw new IndexOutOfBoundsException(s"$i is not below $length")
      else at(i)
    override def toString: String = {
      val first = iterator.take(20).mkString(", ")
      if (length > 20) s"$first, … ($length)" else first
    }
  }

  /** A column: what its buffers hold, which are numbers of words where it has a dictionary. */
  private final case class Field(name: String, stored: Kind, dictionary: Option[Dictionary]) {
    def kind: Kind = dictionary.fold(stored)(_.words)
  }

  private final case class Dictionary(id: Long, words: Kind)

  /** What Arrow stores, and how it is called here; `value` reads one of its buffers behind the validity. */
  private final case class Kind(name: String, buffers: Int, value: Seq[ByteBuffer] => Int => Any)

  private final class Reader(file: FileChannel) {
    private val fileSize = file.size

    def frame(): Frame = {
      val end = part(fileSize - 10, 10)
      val magic = new Array[Byte](6)
      end.position(4)
      end.get(magic)
      if (new String(magic, UTF_8) != "ARROW1") throw new IOException("this is no file of Arrow")
      val footerSize = end.getInt(0)
      val footer = Table.root(part(fileSize - 10 - footerSize, footerSize))
      val fields = footer.table(1).get.tables(1).map(field)
      val dictionaries = footer.blocks(2).map(dictionary(_, fields)).toMap
      val batches = footer.blocks(3).map(message).map { case (batch, body) => columns(batch, body, fields) }
      val size = batches.map(_._1).sum
      val whole = fields.indices.map { at =>
        val chunks = batches.map { case (rows, columns) => new Seen(rows, columns(at)) }
        val field = fields(at)
        val values = joined(chunks, size)
        field.dictionary.fold(values) { dictionary =>
          val words = dictionaries.getOrElse(dictionary.id, throw new IOException("a dictionary is missing"))
          new Seen(size, i => values(i) match { case null => null; case word: Number => words(word.intValue) })
        }
      }
      // An index of pandas that has no name.
      val shown = fields.indices.filterNot(at => fields(at).name.startsWith("__index_level_"))
      new Frame(shown.map(fields(_).name), shown.map(fields(_).kind.name), shown.map(whole), size)
    }

    /** Of several pieces one. */
    private def joined(chunks: IndexedSeq[IndexedSeq[Any]], size: Int): IndexedSeq[Any] =
      if (chunks.length == 1) chunks.head
      else {
        val starts = chunks.scanLeft(0)(_ + _.length).toArray
        new Seen(size, i => {
          val found = java.util.Arrays.binarySearch(starts, i)
          // Behind an empty piece begins another one at the same place.
          var at = if (found >= 0) found else -found - 2
          while (starts(at + 1) <= i) at += 1
          chunks(at)(i - starts(at))
        })
      }

    private def dictionary(block: Block, fields: IndexedSeq[Field]): (Long, IndexedSeq[Any]) = {
      val (batch, body) = message(block)
      val id = batch.long(0)
      val words = fields.flatMap(_.dictionary).find(_.id == id).getOrElse(throw new IOException("a dictionary is nobody's"))
      val (size, columns) = this.columns(batch.table(1).get, body, IndexedSeq(Field("", words.words, None)))
      id -> new Seen(size, columns.head)
    }

    /** What a message says, and where its body begins. */
    private def message(block: Block): (Table, Long) = {
      val head = part(block.offset, block.headBytes)
      // A continuation mark comes before the size, but in files of long ago.
      val start = if (head.getInt(0) == -1) 8 else 4
      head.position(start)
      val message = Table.root(head.slice().order(ByteOrder.LITTLE_ENDIAN))
      (message.table(2).get, block.offset + block.headBytes)
    }

    private def columns(batch: Table, body: Long, fields: IndexedSeq[Field]): (Int, IndexedSeq[Int => Any]) = {
      if (batch.table(3).isDefined) throw new IOException("its buffers are compressed")
      val size = Math.toIntExact(batch.long(0))
      val nodes = batch.structs(1, 16)
      val buffers = batch.structs(2, 16).iterator
      val read = fields.indices.map { at =>
        val missing = nodes(at).getLong(8)
        val kind = fields(at).stored
        val parts = Seq.fill(kind.buffers)(buffers.next()).map(buffer => part(body + buffer.getLong(0), buffer.getLong(8)))
        if (kind.buffers == 0) (_: Int) => null
        else {
          val (valid, value) = (parts.head, kind.value(parts.tail))
          if (missing == 0) value
          else (i: Int) => if ((valid.get(i >> 3) >> (i & 7) & 1) == 1) value(i) else null
        }
      }
      (size, read)
    }

    private def part(offset: Long, bytes: Long): ByteBuffer = {
      if (offset < 0 || bytes < 0 || offset > fileSize - bytes) throw new IOException("it ends too soon")
      if (bytes > Int.MaxValue) throw new IOException("a column of it is larger than 2 GB")
      file.map(FileChannel.MapMode.READ_ONLY, offset, bytes).order(ByteOrder.LITTLE_ENDIAN)
    }
  }

  private def field(table: Table): Field = {
    val name = table.string(0)
    val own = kind(table.byte(2), table.table(3).get, name)
    table.table(4) match {
      case None => Field(name, own, None)
      case Some(encoding) =>
        val number = fixed("Int")(data => i => data.getInt(i << 2))
        val stored = encoding.table(1).fold(number)(kind(2, _, name))
        Field(name, stored, Some(Dictionary(encoding.long(0), own)))
    }
  }

  private def fixed(name: String)(value: ByteBuffer => Int => Any): Kind = Kind(name, 2, parts => value(parts.head))

  private def bytes(parts: Seq[ByteBuffer], isLarge: Boolean): Int => Array[Byte] = {
    val Seq(offsets, data) = parts
    def offset(i: Int): Int = if (isLarge) Math.toIntExact(offsets.getLong(i << 3)) else offsets.getInt(i << 2)
    i => {
      val start = offset(i)
      val value = new Array[Byte](offset(i + 1) - start)
      val view = data.duplicate()
      view.position(start)
      view.get(value)
      value
    }
  }

  /** By the numbers of `Schema.fbs`. */
  private def kind(number: Int, of: Table, name: String): Kind = number match {
    case 1 => Kind("Null", 0, _ => _ => null)
    case 2 =>
      (of.int(0), of.byte(1) != 0) match {
        case (8, true)   => fixed("Byte")(data => i => data.get(i))
        case (8, false)  => fixed("Int")(data => i => data.get(i) & 0xff)
        case (16, true)  => fixed("Short")(data => i => data.getShort(i << 1))
        case (16, false) => fixed("Int")(data => i => data.getShort(i << 1) & 0xffff)
        case (32, true)  => fixed("Int")(data => i => data.getInt(i << 2))
        case (32, false) => fixed("Long")(data => i => data.getInt(i << 2) & 0xffffffffL)
        case (64, true)  => fixed("Long")(data => i => data.getLong(i << 3))
        case _           => fixed("BigInt")(data => i => BigInt(java.lang.Long.toUnsignedString(data.getLong(i << 3))))
      }
    case 3 =>
      of.short(0) match {
        case 1 => fixed("Float")(data => i => data.getFloat(i << 2))
        case 2 => fixed("Double")(data => i => data.getDouble(i << 3))
        case _ => unknown(name, "numbers of half precision")
      }
    case 4  => Kind("Array[Byte]", 3, parts => bytes(parts, isLarge = false))
    case 19 => Kind("Array[Byte]", 3, parts => bytes(parts, isLarge = true))
    case 5  => Kind("String", 3, parts => bytes(parts, isLarge = false).andThen(new String(_, UTF_8)))
    case 20 => Kind("String", 3, parts => bytes(parts, isLarge = true).andThen(new String(_, UTF_8)))
    case 6  => fixed("Boolean")(data => i => (data.get(i >> 3) >> (i & 7) & 1) == 1)
    case 7 =>
      val (scale, width) = (of.int(1), of.int(2, 128) / 8)
      fixed("BigDecimal")(data => i => {
        val value = new Array[Byte](width)
        for (at <- 0 until width) value(width - 1 - at) = data.get(i * width + at)
        scala.math.BigDecimal(new BigDecimal(new BigInteger(value), scale))
      })
    case 8 =>
      of.short(0, 1) match {
        case 0 => fixed("LocalDate")(data => i => LocalDate.ofEpochDay(data.getInt(i << 2)))
        case _ => fixed("LocalDate")(data => i => LocalDate.ofEpochDay(Math.floorDiv(data.getLong(i << 3), 86400000L)))
      }
    case 9 =>
      val unit = nanos(of.short(0, 1))
      of.int(1, 32) match {
        case 32 => fixed("LocalTime")(data => i => LocalTime.ofNanoOfDay(data.getInt(i << 2) * unit))
        case _  => fixed("LocalTime")(data => i => LocalTime.ofNanoOfDay(data.getLong(i << 3) * unit))
      }
    case 10 =>
      val unit = nanos(of.short(0))
      def instant(data: ByteBuffer, i: Int): Instant = {
        val (value, perSecond) = (data.getLong(i << 3), 1000000000L / unit)
        Instant.ofEpochSecond(Math.floorDiv(value, perSecond), Math.floorMod(value, perSecond) * unit)
      }
      of.string(1) match {
        case "" => fixed("LocalDateTime")(data => i => LocalDateTime.ofInstant(instant(data, i), ZoneOffset.UTC))
        case zone =>
          val at = ZoneId.of(zone)
          fixed("ZonedDateTime")(data => i => ZonedDateTime.ofInstant(instant(data, i), at))
      }
    case 18 =>
      val unit = nanos(of.short(0, 1))
      fixed("Duration")(data => i => Duration.ofSeconds(0).plusNanos(Math.multiplyExact(data.getLong(i << 3), unit)))
    case other => unknown(name, if (Set(12, 13, 16, 17, 21)(other)) "lists or structs" else s"Arrow's type $other")
  }

  private def nanos(unit: Int): Long = Array(1000000000L, 1000000L, 1000L, 1L)(unit)

  private def unknown(name: String, what: String): Nothing =
    throw new IOException(s"the column $name has $what, which have no form here; leave it out")

  private final case class Block(offset: Long, headBytes: Int)

  /** A table of a flat buffer: fields by their numbers, of which each may be missing. */
  private final class Table(data: ByteBuffer, at: Int) {
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

  private object Table {
    def root(data: ByteBuffer): Table = new Table(data, data.getInt(0))
  }
}
